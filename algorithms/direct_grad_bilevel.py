"""ModularNAS' DirectGradBiLevelOptim (Lin et al., 2021, MLSys)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raynas.gradient.alpha_words import modular
from raynas.gradient.bilevel import bilevel_step
from raynas.gradient.direct import Direct
from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.gradient.mixed.reinmax import ReinMax
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics


def annealed_from(temperature: Any) -> Mapping[str, Any]:
    """Return the option that stands for ModularNAS' ``init_temp``."""
    return {"mixed_op": ["gumbel_sum", {"temperature": temperature}]}


@ONE_SHOTS.register(
    "direct_grad_bilevel",
    aliases={
        "DirectGradBiLevelOptim": modular(),
        "DirectGradOptimBiLevel": modular(),
        "GumbelAnnealingOptim": modular(
            {**annealed_from(1e4), "anneal_rate": 0.0015},
            init_temp=annealed_from,
            exp_anneal_rate="anneal_rate",
            anneal_interval="anneal_every",
            restart_period="restart_every",
        ),
    },
)
@dataclass(kw_only=True, eq=False)
class DirectGradBilevel(Direct):
    """Trains logits by the gradients of a validation batch, then weights (two levels).

    With an ``anneal_rate`` r and a mixed operator that has a temperature, this is ModularNAS'
    GumbelAnnealingOptim: after n steps that trained logits the temperature is T exp(-r n / i), with
    T the operator's own and i the ``anneal_every``.

    Args:
        seed: fixes the initial logits and all draws.
        mixed_op: how candidates combine: weighted_sum, gumbel_sum, dirichlet_sum, binary_gate,
            uniform_gate or reinmax, with options as ``["gumbel_sum", {"temperature": 5.0}]``.
        anneal_rate: by which the temperature falls; 0 keeps it.
        anneal_every: steps from one temperature to the next.
        restart_every: steps after which the temperature begins anew; None never does.
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
        ValueError: a mixed operator that gives logits no gradient, as ``index``, or has no
            temperature that could fall.
    """

    anneal_rate: float = 0.0
    anneal_every: int = 1
    restart_every: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anneal_rate < 0 or self.anneal_every < 1:
            raise ValueError(
                "expected an anneal_rate that is not negative and an anneal_every of at least 1, "
                f"got {self.anneal_rate} and {self.anneal_every}"
            )
        if self.restart_every is not None and self.restart_every < 1:
            raise ValueError(f"restart_every: expected at least 1, got {self.restart_every}")
        if self.anneal_rate and not isinstance(self.op, GumbelSum | ReinMax):
            raise ValueError(
                f"anneal_rate is of a temperature, which {self.mixed_op!r} has not: use gumbel_sum "
                "or reinmax, or leave it out"
            )
        self._hottest = self.op.temperature if isinstance(self.op, GumbelSum | ReinMax) else 1.0

    def temperature(self, step: int) -> float:
        """Return the temperature after so many steps that trained logits."""
        step = step if self.restart_every is None else step % self.restart_every
        at = step // self.anneal_every * self.anneal_every
        return self._hottest * math.exp(-self.anneal_rate * at / self.anneal_every)

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Do the logits' step, then the weights'."""
        if self.anneal_rate and isinstance(self.op, GumbelSum | ReinMax):
            training = self.training
            warm = self.warmup_epochs * (training.steps // training.epochs)
            self.op.temperature = self.temperature(max(training.step - warm, 0))
        return bilevel_step(self, train, valid, draws=True)
