"""Single-Path NAS: kernels and widths are decided by the norms of their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.nest import Nest
from raynas.core.train_settings import TrainSettings
from raynas.gradient.agreement import check_ranks_agree
from raynas.gradient.base import ALPHA
from raynas.gradient.hardware import Hardware, checked_hardware
from raynas.gradient.runtime import Runtime
from raynas.gradient.thresholds import Thresholds, super_kernels
from raynas.gradient.top_architectures import top_k
from raynas.nn.mutable import inner_space, name_labels
from raynas.supernet.protocol import (
    ONE_SHOTS,
    Batch,
    Distribution,
    Metrics,
    OneShot,
    Training,
    cosine,
)

OF_OTHERS = ("form", "reference", "weight", "power")


@ONE_SHOTS.register("single_path_nas")
@dataclass(kw_only=True, eq=False)
class SinglePathNAS(OneShot):
    """Trains one super-kernel per block, and thresholds on the norms of its parts, together.

    A part of a kernel (its outer ring, its second half of channels, all of it where it may be
    skipped) takes part in a pass if its squared norm exceeds a threshold, whose gradient is that of
    a sigmoid. One pass per batch trains weights and thresholds on the loss plus ``runtime_weight``
    times the logarithm of the runtime, a sum of look-ups per block. In the first share of the
    training the runtime does not count, and indicators are dropped, so that small parts are trained
    on their own.

    Source: Stamoulis et al., 2019, arXiv:1904.02877. Differs: channels and blocks are switched off
    behind the BatchNorm that follows the kernel, so that the supernet computes what its
    architecture does; on the kernel itself, as published (``masks="kernel"``), BatchNorm turns
    zeros into its bias, and its batch statistics undo any factor, so that the loss has no gradient
    for a part that takes part. Norms are squared as in the paper, not plain as in the authors'
    code. Thresholds are stepped by Adam, weights by the training's optimizer. Dropped indicators
    are 0 with one rate; nothing is scaled up for it.

    Args:
        seed: fixes which indicators are dropped.
        threshold_lr: learning rate of the thresholds, by Adam.
        runtime_weight: of the logarithm of the runtime in the loss.
        warmup_share: of all steps at first, in which the runtime does not count and indicators are
            dropped; 5 of 8 epochs in the authors' code.
        indicator_dropout: probability with which each is 0 in those.
        masks: ``output`` or ``kernel``: where channels are switched off.
        hardware: what the runtime is: ``{"target": "macs"}`` (or ``params``), which is counted and
            taken where none is given, or ``{"target": "mobile", "table": file}`` of latencies.

    Raises:
        ValueError: a number out of range, a measured latency, or a setting of ``hardware`` that
            only other algorithms have.
    """

    defaults: ClassVar[dict[str, Any]] = {"epochs": 8, "weight_decay": 1e-5}

    seed: int = 0
    threshold_lr: float = 0.01
    runtime_weight: float = 0.1
    warmup_share: float = 0.625
    indicator_dropout: float = 0.1
    masks: str = "output"
    hardware: Hardware | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.threshold_lr <= 0 or self.runtime_weight < 0:
            raise ValueError(
                "expected a positive threshold_lr and a runtime_weight that is not negative, got "
                f"{self.threshold_lr} and {self.runtime_weight}"
            )
        if not (0 <= self.warmup_share < 1 and 0 <= self.indicator_dropout < 1):
            raise ValueError(
                "expected a warmup_share and an indicator_dropout of at least 0 and below 1, got "
                f"{self.warmup_share} and {self.indicator_dropout}"
            )
        if self.masks not in ("output", "kernel"):
            raise ValueError(f"masks must be 'output' or 'kernel', got {self.masks!r}")
        self._hardware = self.hardware = checked_hardware(self.hardware) or Hardware()
        self._check_hardware(self._hardware)

    @staticmethod
    def _check_hardware(hardware: Hardware) -> None:
        for name in OF_OTHERS:
            if name in hardware.model_fields_set:
                raise ValueError(
                    f"hardware.{name} has no part in single_path_nas; use runtime_weight"
                )
        counted = hardware.target in ("macs", "params")
        if counted and hardware.table is not None:
            raise ValueError(f"hardware.table is of latencies, hardware.target {hardware.target!r}")
        if not counted and hardware.table is None:
            raise ValueError(
                f"hardware.target {hardware.target!r} needs hardware.table, a file of latencies: "
                "single_path_nas measures none"
            )

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace unless all that is to be decided are super-kernels."""
        name_labels(model)
        super_kernels(model)

    def check_settings(self, settings: TrainSettings) -> None:
        """Raise ValueError where weights cannot be trained so."""
        if settings.precision == "float16":
            raise ValueError(
                "precision='float16' scales the loss that thresholds are trained on too; use "
                "bfloat16 or float32"
            )

    def attach(self, training: Training) -> None:
        """Give every block its thresholds.

        Raises:
            InvalidSpace: there is no super-kernel, or another choice.
        """
        self.training = training
        name_labels(training.model)
        blocks = super_kernels(training.model)
        self.runtime = Runtime(self._hardware, training.model, blocks, training.example)
        self.thresholds = Thresholds(training.model, on_kernel=self.masks == "kernel")
        self.optimizer = torch.optim.Adam(self.thresholds.values.values(), self.threshold_lr)

    @property
    def warming(self) -> bool:
        """Whether the runtime does not count yet."""
        return self.training.step < self.warmup_share * self.training.steps

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train weights and thresholds on one batch."""
        training, values = self.training, list(self.thresholds.values.values())
        rng = np.random.default_rng([self.seed, training.step, 0])
        self.thresholds.attach()
        self.thresholds.draw(self.indicator_dropout if self.warming else 0.0, rng)
        loss = training.loss(train)
        self.optimizer.zero_grad(set_to_none=True)
        training.descend(loss if self.warming else loss + self.penalty())
        for value in values:
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        training.average([value.grad for value in values if value.grad is not None])
        self.optimizer.step()
        return {"loss": loss.detach()}

    def penalty(self) -> Tensor:
        """Return ``runtime_weight`` times the logarithm of the runtime, shape ()."""
        return self.runtime_weight * self._expected().log()

    def _expected(self) -> Tensor:
        labels = self.thresholds.blocks
        return self.runtime.expected({label: self.thresholds.indicators(label) for label in labels})

    @torch.no_grad()
    def epoch_end(self) -> Metrics:
        """Return the runtime of what is derived, and how near every option is to that.

        Raises:
            RuntimeError: ranks hold different thresholds.
        """
        check_ranks_agree(self.training, list(self.thresholds.values.values()), "thresholds")
        self.thresholds.draw(0.0, np.random.default_rng(0))
        row: Metrics = {f"derived_{self.runtime.metric}": float(self._expected())}
        for label, pairs in self.distribution().items():
            row |= {f"{ALPHA}{label}.{option}": share for option, share in pairs}
        return row

    def lr_scale(self, step: int, steps: int) -> float:
        """Return a cosine with a rise over the first tenth."""
        return cosine(step, steps)

    def derive(self) -> dict[str, Value]:
        """Return what the thresholds leave of every block."""
        return self.thresholds.derive()

    def top_k(self, count: int) -> list[dict[str, Value]]:
        """Return that many architectures, the nearest to the derived one first."""
        p, space = self.thresholds.probabilities(), inner_space(self.training.model)
        return top_k(space, self.derive(), p, self.thresholds.specs(), count)

    def distribution(self) -> Distribution:
        """Return how near every option is to being derived, by label (``Thresholds``)."""
        specs = self.thresholds.specs()
        return {
            label: list(zip(map(str, specs[label].options), p.tolist(), strict=True))
            for label, p in self.thresholds.probabilities().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the thresholds and their optimizer."""
        return {
            "thresholds": self.thresholds.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        self.thresholds.load_state_dict(state["thresholds"])
        self.optimizer.load_state_dict(state["optimizer"])
