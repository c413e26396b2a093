"""NNI's trainer of FBNet."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import nn

from raynas.nni.callbacks import Callback
from raynas.nni.checks import check_epochs, check_loss
from raynas.nni.optimizers import optimizer_options
from raynas.nni.problem import parts
from raynas.nni.trainer import Job, OneShotTrainer, RunOptions


@dataclass(frozen=True, kw_only=True)
class NASConfig:
    """Settings of ``FBNetTrainer``.

    Args:
        perf_metric: cost in the logits' loss: ``flops``, ``latency``, or None for none.
        model_dir: path of a table of latencies (see ``raynas.costs.LatencyTable``); of latency
            without one, this machine's CPU is measured.
        nas_lr: learning rate of the logits.
        nas_weight_decay: of the logits.
        mode: ``mul``: alpha * loss * ln(cost) ** beta; or ``add``: loss + alpha * (cost / cost at
            the start - 1), which has no beta.
        alpha: weight of the cost.
        beta: power of its logarithm.
        start_epoch: epochs of weights alone.
        init_temperature: of the samples.
        exp_anneal_rate: factor of the temperature, per epoch.
    """

    perf_metric: Literal["flops", "latency"] | None = "flops"
    model_dir: str | None = None
    nas_lr: float = 0.01
    nas_weight_decay: float = 5e-4
    mode: Literal["mul", "add"] = "mul"
    alpha: float = 0.25
    beta: float = 0.6
    start_epoch: int = 50
    init_temperature: float = 5.0
    exp_anneal_rate: float = math.exp(-0.045)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the algorithm ``fbnet``."""
        return {
            "alpha_lr": self.nas_lr,
            "alpha_weight_decay": self.nas_weight_decay,
            "warmup_epochs": self.start_epoch,
            "temperature": self.init_temperature,
            "decay": -math.log(self.exp_anneal_rate),
            "hardware": self._hardware(),
        }

    def _hardware(self) -> dict[str, Any] | None:
        if self.perf_metric is None:
            return None
        form: dict[str, Any] = {"form": "add", "weight": self.alpha}
        if self.mode == "mul":
            form = {"form": "mul_log", "weight": self.alpha, "power": self.beta}
        if self.perf_metric == "flops":
            return {"target": "macs", **form}
        if self.model_dir is None:
            return {"target": "cpu", **form}
        return {"target": "mobile", "table": self.model_dir, **form}


class FBNetTrainer(OneShotTrainer):
    """FBNet by the arguments of NNI's trainer; see ``raynas.algorithms.FBNet``.

    The learning rate falls as a cosine.

    Differs: costs are counted, measured or read here, so that ``lookup_table`` is their settings.

    Args:
        model: with choices in it; it has the trained weights afterwards.
        model_optim: optimizer of the model's weights.
        criterion: loss, a function of (outputs, targets); None is the task's.
        device: ``cpu``, ``cuda`` or None.
        device_ids: of GPUs; as many processes train together.
        lookup_table: an ``NASConfig``, or options of the algorithm ``fbnet``; None has no cost.
        train_loader: batches that train weights.
        valid_loader: batches that train logits.
        n_epochs: those of weights alone included.
        load_ckpt: go on with what is in ``out``, if there is something.
        arch_path: JSON file that ``train`` writes the architecture to when it ends.
        logger: told of every epoch.
        extras: see ``raynas.nni.RunOptions``.

    Raises:
        TypeError, ValueError: an argument of another kind, or one that cannot be kept.
    """

    algo: ClassVar[str] = "fbnet"

    def __init__(
        self,
        model: nn.Module,
        model_optim: torch.optim.Optimizer,
        criterion: Any,
        device: Any,
        device_ids: Sequence[int] | None,
        lookup_table: NASConfig | Mapping[str, Any] | None,
        train_loader: Any,
        valid_loader: Any,
        n_epochs: int = 120,
        load_ckpt: bool = False,
        arch_path: str | Path | None = None,
        logger: logging.Logger | None = None,
        **extras: Unpack[RunOptions],
    ) -> None:
        check_epochs("n_epochs", n_epochs)
        if criterion is not None:
            check_loss("criterion", criterion)
        if load_ckpt and extras.get("out") is None:
            raise ValueError("load_ckpt goes on with what is in out=: name it")
        settings = NASConfig(perf_metric=None) if lookup_table is None else lookup_table
        if not isinstance(settings, NASConfig | Mapping):
            raise TypeError(
                "lookup_table: expected a raynas.nni.NASConfig, options of fbnet or None, got a "
                f"{type(settings).__name__}"
            )
        own = settings.options if isinstance(settings, NASConfig) else settings
        self._arch_path = arch_path
        job = Job(
            model=model,
            splits=parts(train_loader, valid_loader),
            epochs=n_epochs,
            options={**optimizer_options(model_optim, model), **own},
            loss=criterion,
            device=device,
            ranks=max(1, len(device_ids or ())),
            callbacks=() if logger is None else (_Log(logger),),
        )
        super().__init__(job, {**extras, "resume": load_ckpt or extras.get("resume", False)})

    def train(self) -> None:
        """Search, and write the architecture to ``arch_path`` if there is one."""
        super().train()
        if self._arch_path is not None:
            self.export(self._arch_path)


class _Log(Callback):
    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def on_epoch_end(self, epoch: int) -> None:
        self._logger.info("epoch %d is over", epoch)
