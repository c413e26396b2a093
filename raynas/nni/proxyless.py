"""NNI's trainers of ProxylessNAS."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Unpack

import torch
from torch import nn

from raynas.nni.checks import check_epochs, check_loss
from raynas.nni.darts import one_dataset
from raynas.nni.optimizers import optimizer_options
from raynas.nni.problem import MetricsFunction, halved, parts
from raynas.nni.trainer import Job, OneShotTrainer, RunOptions, warn_of_log_frequency

WARMUP_LR = 0.05  # at the top of the warm-up, as in the authors' code
FORMS = {"mul#log": "mul_log", "add#linear": "add"}


class WarmupThenCosine:
    """A cosine over the warm-up from a learning rate of its own, and another over what follows.

    Args:
        share: of all steps that the warm-up takes.
        height: learning rate at its top, over that of the rest.
    """

    def __init__(self, share: float, height: float) -> None:
        self.share, self.height = share, height

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate."""
        warm = self.share * steps
        if step < warm:
            return self.height * 0.5 * (1 + math.cos(math.pi * step / warm))
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


class ProxylessNasTrainer(OneShotTrainer):
    """ProxylessNAS by the arguments of NNI 1's trainer; see ``raynas.algorithms.Proxyless``.

    Weights are trained for ``warmup_epochs`` alone, with a learning rate that falls from 0.05 as a
    cosine; then with the logits for ``n_epochs``, from ``init_lr``.

    Differs: what is exported is the most probable architecture, and no draw; checkpoints are a
    folder.

    Args:
        model: with choices in it; it has the trained weights afterwards.
        model_optim: optimizer of the model's weights, whose learning rate ``init_lr`` replaces.
        device: ``cpu``, ``cuda`` or None.
        train_loader: batches that train weights; a dataset will do.
        valid_loader: batches that train logits.
        label_smoothing: of the weights' loss.
        n_epochs: after the warm-up.
        init_lr: of the weights.
        binary_mode: of the gates: ``two``, ``full`` or ``full_v2``.
        arch_init_type: of the initial logits, ``normal`` or ``uniform``.
        arch_init_ratio: its standard deviation, or half its width.
        arch_optim_lr: of the logits, by Adam with betas 0 and 0.999.
        arch_weight_decay: of the logits.
        grad_update_arch_param_every: steps of the weights between updates of the logits.
        grad_update_steps: of the logits, for an update.
        warmup: whether there is one.
        warmup_epochs: how long.
        arch_valid_frequency: 1: the derived network is validated after every epoch in any case.
        load_ckpt: go on with what is in ``ckpt_path``, if there is something.
        ckpt_path: folder of the run, in place of ``out``.
        arch_path: JSON file that ``train`` writes the architecture to when it ends.
        extras: see ``raynas.nni.RunOptions``.

    Raises:
        TypeError, ValueError: an argument of another kind, or one that cannot be kept.
    """

    algo: ClassVar[str] = "proxyless"

    def __init__(
        self,
        model: nn.Module,
        model_optim: torch.optim.Optimizer,
        device: Any,
        train_loader: Any,
        valid_loader: Any,
        label_smoothing: float = 0.1,
        n_epochs: int = 120,
        init_lr: float = 0.025,
        binary_mode: str = "full_v2",
        arch_init_type: str = "normal",
        arch_init_ratio: float = 1e-3,
        arch_optim_lr: float = 1e-3,
        arch_weight_decay: float = 0,
        grad_update_arch_param_every: int = 5,
        grad_update_steps: int = 1,
        warmup: bool = True,
        warmup_epochs: int = 25,
        arch_valid_frequency: int = 1,
        load_ckpt: bool = False,
        ckpt_path: str | Path | None = None,
        arch_path: str | Path | None = None,
        **extras: Unpack[RunOptions],
    ) -> None:
        if arch_valid_frequency != 1:
            text = (
                f"arch_valid_frequency={arch_valid_frequency}: the derived network is validated "
                "after every epoch"
            )
            warnings.warn(text, UserWarning, stacklevel=2)
        check_epochs("n_epochs", n_epochs)
        warm = warmup_epochs if warmup else 0
        epochs = n_epochs + warm
        options = {
            **optimizer_options(model_optim, model),
            "lr": init_lr,
            "label_smoothing": label_smoothing,
            "mode": binary_mode,
            "init": arch_init_type,
            "init_ratio": arch_init_ratio,
            "alpha_lr": arch_optim_lr,
            "alpha_weight_decay": float(arch_weight_decay),
            "alpha_every": grad_update_arch_param_every,
            "alpha_steps": grad_update_steps,
            "warmup_epochs": warm,
            "schedule": WarmupThenCosine(warm / epochs, WARMUP_LR / init_lr),
        }
        self._arch_path = arch_path
        splits = parts(train_loader, valid_loader)
        job = Job(model=model, splits=splits, epochs=epochs, options=options, device=device)
        super().__init__(job, {**extras, **_folder(ckpt_path, load_ckpt, extras)})

    def train(self) -> None:
        """Search, and write the architecture to ``arch_path`` if there is one."""
        super().train()
        if self._arch_path is not None:
            self.export(self._arch_path)


class ProxylessTrainer(OneShotTrainer):
    """ProxylessNAS by the arguments of NNI 2's trainer; see ``raynas.algorithms.Proxyless``.

    The first half of ``dataset`` trains weights, the second one logits. The learning rate is
    constant.

    Args:
        model: with choices in it; it has the trained weights afterwards.
        loss: a function of (outputs, targets).
        metrics: a function of (outputs, targets) that returns a dict of numbers, for whole splits;
            one number will do and is called ``metric``.
        optimizer: of the model's weights.
        num_epochs: over the first half, the warm-up included.
        dataset: that is halved.
        warmup_epochs: at first, in which only weights are trained.
        batch_size: of both halves.
        workers: processes that read data that do not fit into memory.
        device: ``cpu``, ``cuda`` or None.
        log_frequency: not by steps but once an epoch is there progress, as a warning says.
        arc_learning_rate: of the logits.
        grad_reg_loss_type: how the latency takes part in the logits' loss: ``mul#log`` or
            ``add#linear``; None leaves it out.
        grad_reg_loss_params: ``alpha`` and ``beta`` of the first, ``lambda`` of the second.
        applied_hardware: whose latency: ``cpu`` or ``gpu``, measured here, or the path of a table
            (see ``raynas.costs.LatencyTable``).
        ref_latency: in milliseconds.
        extras: see ``raynas.nni.RunOptions``.

    Raises:
        TypeError, ValueError: an argument of another kind, or one that cannot be kept.
    """

    algo: ClassVar[str] = "proxyless"

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        metrics: MetricsFunction | None,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        dataset: Any,
        warmup_epochs: int = 0,
        batch_size: int = 64,
        workers: int = 4,
        device: Any = None,
        log_frequency: int | None = None,
        arc_learning_rate: float = 1e-3,
        grad_reg_loss_type: str | None = None,
        grad_reg_loss_params: Mapping[str, float] | None = None,
        applied_hardware: str | None = None,
        ref_latency: float = 65.0,
        **extras: Unpack[RunOptions],
    ) -> None:
        warn_of_log_frequency(log_frequency)
        check_epochs("num_epochs", num_epochs)
        check_loss("loss", loss)
        examples = one_dataset(None, dataset)
        options = {
            **optimizer_options(optimizer, model),
            "alpha_lr": arc_learning_rate,
            "alpha_every": 1,
            "warmup_epochs": warmup_epochs,
            "batch_size": batch_size,
            "schedule": "constant",
            "hardware": _hardware(
                grad_reg_loss_type, grad_reg_loss_params, applied_hardware, ref_latency
            ),
        }
        job = Job(
            model=model,
            splits=halved(examples),
            epochs=num_epochs,
            options=options,
            loss=loss,
            metrics=metrics,
            workers=workers,
            device=device,
        )
        super().__init__(job, extras)


def _folder(
    ckpt_path: str | Path | None, load_ckpt: bool, extras: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the run's folder and whether to go on with it.

    Raises:
        ValueError: two folders, or none to go on with.
    """
    if ckpt_path is not None and extras.get("out") not in (None, str(ckpt_path)):
        raise ValueError("ckpt_path and out= both name the folder of the run: give one")
    out = extras.get("out") if ckpt_path is None else str(ckpt_path)
    if load_ckpt and out is None:
        raise ValueError("load_ckpt goes on with what is in ckpt_path: name it")
    return {"out": out, "resume": load_ckpt or extras.get("resume", False)}


def _hardware(
    form: str | None, params: Mapping[str, float] | None, target: str | None, reference: float
) -> dict[str, Any] | None:
    if form is None and params is None and target is None:
        return None
    if form not in FORMS or target is None:
        expected = f"{' or '.join(FORMS)} with applied_hardware"
        raise ValueError(f"grad_reg_loss_type: expected {expected}, got {form!r} and {target!r}")
    words = {"alpha": "weight", "beta": "power", "lambda": "weight"}
    own = {words.get(name, name): value for name, value in (params or {}).items()}
    device = (
        {"target": target} if target in ("cpu", "gpu") else {"target": "mobile", "table": target}
    )
    return {**device, "form": FORMS[form], "reference": reference, **own}
