"""What ModularNAS' two optimizers by plain gradients have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.mixed.base import MIXED_OPS


@dataclass(kw_only=True, eq=False)
class Direct(Differentiable):
    """Combines candidates by any mixed operator that gives logits a gradient.

    Args:
        seed: fixes the initial logits and all draws.
        mixed_op: how candidates combine: weighted_sum, gumbel_sum, dirichlet_sum, binary_gate,
            uniform_gate or reinmax, alone or with options.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss.
        selection: how the architecture is derived: ``magnitude``, by the largest probabilities; or
            ``perturbation`` (DARTS-PT, arXiv:2108.04392), choice by choice after ``search_epochs``,
            by what the supernet loses on the validation split without a candidate.
        search_epochs: before the first decision by perturbation; None is the warm-up and half of
            what follows it.

    Raises:
        ValueError: a mixed operator that gives logits no gradient, as ``index``.
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING

    final_lr_share: ClassVar[float] = 0.04

    mixed_op: Any = "weighted_sum"

    def __post_init__(self) -> None:
        name, options = MIXED_OPS.resolved(self.mixed_op)
        self.mixed_op = [name, options] if options else name
        if name == "index":
            raise ValueError("mixed_op 'index' gives the logits no gradient; use a gate or a sum")
        self.op = MIXED_OPS.make(name, **options)
        super().__post_init__()
