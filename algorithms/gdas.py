"""GDAS (Dong & Yang, 2019, arXiv:1910.04465)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raynas.gradient.base import DARTS_TRAINING, Differentiable
from raynas.gradient.estimators import Estimator, sampling_op
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.gradient.mixed.reinmax import ReinMax
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


@ONE_SHOTS.register("gdas")
@dataclass(kw_only=True, eq=False)
class GDAS(Differentiable):
    """Trains one sampled candidate per choice: weights first, then logits on a validation batch.

    The sample is the arg max of noisy log-probabilities; its weight is 1 in value and carries the
    softmax' gradient. Differs: the authors' code adds a term to the logits' gradient that does not
    depend on the candidates (see ``gumbel_sum``).

    Args:
        seed: fixes the initial logits and the noise.
        estimator: of the logits' gradient: ``gumbel``, the paper's, or ``reinmax``
            (arXiv:2304.08612), which is accurate to second order and, in the logits' step, runs
            all candidates; its temperature is never below 1.
        temperature: of the softmax at the start.
        final_temperature: reached linearly in the last epoch.
        alpha_lr: learning rate of the logits, by Adam.
        alpha_betas: of Adam.
        alpha_weight_decay: of Adam.
        warmup_epochs: at first, in which only weights are trained.
        hardware: cost that takes part in the logits' loss, such as ``{"target": "macs"}``.
        selection: how the architecture is derived: ``magnitude``, the largest probabilities;
            ``perturbation`` is for algorithms that mix candidates.
        search_epochs: goes with ``perturbation``.
    """

    defaults: ClassVar[dict[str, Any]] = DARTS_TRAINING | {
        "epochs": 250,
        "weight_decay": 5e-4,
        "nesterov": True,
    }
    final_lr_share: ClassVar[float] = 0.04

    estimator: Estimator = "gumbel"
    temperature: float = 10.0
    final_temperature: float = 0.1
    op: GumbelSum | ReinMax = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.temperature, self.final_temperature) <= 0:
            raise ValueError("temperatures must be positive")
        self.op = sampling_op(self.estimator, self.temperature, hard=True)
        super().__post_init__()

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the weights' step, then the logits'."""
        training = self.training
        share = training.epoch / max(training.epochs - 1, 1)
        self.op.temperature = (1 - share) * self.temperature + share * self.final_temperature
        self.relaxation.sample(training.step, 0)
        metrics: Metrics = {"loss": self.weight_step(train)}
        if alphas := self.alphas:
            self.relaxation.sample(training.step, 1)
            metrics["valid_loss"] = self.alpha_step(next(valid), alphas)
        return metrics
