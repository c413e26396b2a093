"""DARTS (Liu et al., 2019, arXiv:1806.09055)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.bilevel import bilevel_step
from raynas.gradient.hardware import Hardware
from raynas.gradient.mixed.weighted_sum import WeightedSum
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register("darts", aliases=("DARTSOptim", "DartsTrainer"))
class DARTS(Differentiable):
    """Trains softmax mixtures: logits on a validation batch, then weights on a training batch.

    Args:
        seed: fixes the initial logits.
        unrolled: take the logits' gradient after one virtual step of the weights (second order).
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained (0 in the paper; 15 in PC-DARTS).
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING

    def __init__(
        self,
        *,
        seed: int = 0,
        unrolled: bool = False,
        alpha_lr: float = 3e-4,
        alpha_betas: tuple[float, float] = (0.5, 0.999),
        alpha_weight_decay: float = 1e-3,
        warmup_epochs: int = 0,
        hardware: Hardware | Mapping[str, Any] | None = None,
    ) -> None:
        self.unrolled = unrolled
        super().__init__(
            WeightedSum(),
            seed=seed,
            alpha_lr=alpha_lr,
            alpha_betas=alpha_betas,
            alpha_weight_decay=alpha_weight_decay,
            warmup_epochs=warmup_epochs,
            hardware=hardware,
            floor=0.04,
        )

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the logits' step, then the weights'."""
        return bilevel_step(self, train, valid, unrolled=self.unrolled)
