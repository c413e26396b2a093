"""SNAS (Xie et al., 2019, arXiv:1812.09926)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.estimators import Estimator, sampling_op
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.gradient.mixed.reinmax import ReinMax
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register("snas")
@dataclass(kw_only=True, eq=False)
class SNAS(Differentiable):
    """Trains weights and logits together, on samples of the concrete distribution.

    One sample per label and step; one backward pass gives the gradients of both (single level).
    Resources enter as an expected cost through ``hardware``, differentiably, and not by the
    paper's policy gradient.

    Args:
        seed: fixes the initial logits and the noise.
        estimator: of the logits' gradient: ``gumbel``, the paper's, or ``reinmax``
            (arXiv:2304.08612), which samples one candidate per label, lets it alone give the output
            and learn, and is accurate to second order; its temperature is never below 1.
        temperature: of the samples at the start.
        final_temperature: reached linearly at the end; None keeps the first (the authors' code).
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
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING | {"epochs": 150}
    final_lr_share: ClassVar[float] = 0.04

    estimator: Estimator = "gumbel"
    temperature: float = 1.0
    final_temperature: float | None = 0.03
    op: GumbelSum | ReinMax = field(init=False, repr=False)

    def __post_init__(self) -> None:
        final = self.temperature if self.final_temperature is None else self.final_temperature
        if min(self.temperature, final) <= 0:
            raise ValueError("temperatures must be positive")
        self.op = sampling_op(self.estimator, self.temperature, hard=False)
        super().__post_init__()

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train weights and logits on one batch."""
        training = self.training
        self.valid = valid
        last = self.temperature if self.final_temperature is None else self.final_temperature
        share = training.step / max(training.steps - 1, 1)
        self.op.temperature = self.temperature + (last - self.temperature) * share
        self.relaxation.sample(training.step, 0)
        return {"loss": self.joint_step(train)}
