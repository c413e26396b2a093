"""ModularNAS' DirectGradBiLevelOptim (Lin et al., 2021, MLSys)."""

from __future__ import annotations

from collections.abc import Iterator

from raynas.gradient.bilevel import bilevel_step
from raynas.gradient.direct import Direct
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register(
    "direct_grad_bilevel", aliases=("DirectGradBiLevelOptim", "DirectGradOptimBiLevel")
)
class DirectGradBilevel(Direct):
    """Trains logits by the gradients of a validation batch, then weights (two levels).

    Args:
        seed: fixes the initial logits and all draws.
        mixed_op: how candidates combine: weighted_sum, gumbel_sum, dirichlet_sum, binary_gate,
            uniform_gate or reinmax.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, by the largest probabilities; or
            ``perturbation`` (DARTS-PT, arXiv:2108.04392), choice by choice after ``search_epochs``,
            by what the supernet loses on the validation split without a candidate.
        search_epochs: before the first decision by perturbation; None is the warm-up and half of
            what follows it.

    Raises:
        ValueError: a mixed operator that gives logits no gradient, as ``index``.
    """

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the logits' step, then the weights'."""
        return bilevel_step(self, train, valid, draws=True)
