"""What ModularNAS' two optimizers by plain gradients have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.hardware import Hardware
from raynas.gradient.mixed.base import MIXED_OPS


class Direct(Differentiable):
    """Combines candidates by any mixed operator that gives logits a gradient.

    Args:
        seed: fixes the initial logits and all draws.
        mixed_op: how candidates combine: weighted_sum, gumbel_sum, binary_gate or uniform_gate.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss.

    Raises:
        ValueError: a mixed operator that gives logits no gradient, as ``index``.
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING

    def __init__(
        self,
        *,
        seed: int = 0,
        mixed_op: str = "weighted_sum",
        alpha_lr: float = 3e-4,
        alpha_betas: tuple[float, float] = (0.5, 0.999),
        alpha_weight_decay: float = 1e-3,
        warmup_epochs: int = 0,
        hardware: Hardware | Mapping[str, Any] | None = None,
    ) -> None:
        self.mixed_op = MIXED_OPS.name_of(mixed_op)
        if self.mixed_op == "index":
            raise ValueError("mixed_op 'index' gives the logits no gradient; use a gate or a sum")
        super().__init__(
            MIXED_OPS[mixed_op](),
            seed=seed,
            alpha_lr=alpha_lr,
            alpha_betas=alpha_betas,
            alpha_weight_decay=alpha_weight_decay,
            warmup_epochs=warmup_epochs,
            hardware=hardware,
            floor=0.04,
        )
