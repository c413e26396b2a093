"""ModularNAS' DirectGradOptim (Lin et al., 2021, MLSys)."""

from __future__ import annotations

from collections.abc import Iterator

from raynas.gradient.alpha_words import modular
from raynas.gradient.direct import Direct
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register("direct_grad", aliases={"DirectGradOptim": modular()})
class DirectGrad(Direct):
    """Trains logits by the gradients that the training loss leaves (one level).

    Args:
        seed: fixes the initial logits and all draws.
        mixed_op: how candidates combine: weighted_sum, gumbel_sum, dirichlet_sum, binary_gate,
            uniform_gate or reinmax, with options as ``["gumbel_sum", {"temperature": 5.0}]``.
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
        """Train weights and logits on one batch."""
        self.valid = valid
        self.relaxation.sample(self.training.step, 0)
        return {"loss": self.joint_step(train)}
