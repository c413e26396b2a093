"""SMASH (Brock et al., 2017, arXiv:1708.05344): a hypernetwork emits every network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from raynas.core.arch import Arch
from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest
from raynas.nn.hypernetwork import Hypernetwork
from raynas.nn.mutable import activate_unchecked, space_of
from raynas.supernet.balance import Balance, BalancedPaths, CostMetric, balanced_paths
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training
from raynas.supernet.weights_only import WeightsOnly


@ONE_SHOTS.register("smash")
@dataclass(kw_only=True, eq=False)
class Smash(WeightsOnly):
    """Trains a hypernetwork with a random architecture per batch.

    Brock, Lim, Ritchie and Weston, 2017, arXiv:1708.05344, algorithm 1. The emitted weights pass
    the loss's gradient on to the hypernetwork, and the network's other weights are trained with
    it. It takes supernets with a ``raynas.nn.hypernetwork.Hypernetwork``, as the space ``smash``
    has them. Differs: networks are kept to a budget by drawing until one costs about as much.

    Args:
        seed: fixes the architectures.
        budget: cost that all architectures are to have, about; None draws any.
        budget_metric: ``params``, ``macs`` or ``activation_bytes``, of the plain network.
        budget_tolerance: how far off the budget a cost may be, as a share of it.
        budget_tries: architectures drawn for one step; then the last one is taken, whatever it
            costs. Each that is new is measured.

    Raises:
        ValueError: a setting that is not positive.
    """

    sampler: ClassVar[str] = "perturbation"

    seed: int = 0
    budget: float | None = None
    budget_metric: CostMetric = "params"
    budget_tolerance: float = 0.1
    budget_tries: int = 100

    def __post_init__(self) -> None:
        for name in ("budget", "budget_tolerance", "budget_tries"):
            value = vars(self)[name]
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")

    def check(self, model: nn.Module, inputs: Nest) -> None:
        """Raise InvalidSpace without a hypernetwork, or where nothing is within the budget."""
        _check_hypernetwork(model)
        self._within_budget(model, inputs)

    def attach(self, training: Training) -> None:
        """Read the space off the model."""
        super().attach(training)
        _check_hypernetwork(training.model)
        self._space = space_of(training.model)
        self._budgeted = self._within_budget(training.model, training.example)

    def _within_budget(self, model: nn.Module, inputs: Nest) -> BalancedPaths | None:
        if self.budget is None:
            return None
        low, high = (self.budget * (1 + side * self.budget_tolerance) for side in (-1, 1))
        one_bin = Balance(self.budget_metric, (max(low, 0.0), high), 1, self.budget_tries)
        return balanced_paths(one_bin, space_of(model), model, inputs)

    def path(self, step: int) -> tuple[Arch, bool]:
        """Return a step's architecture, and whether it is within the budget.

        It is a function of the seed, so equal on all ranks.
        """
        rng = np.random.default_rng([self.seed, step])
        if self._budgeted is None:
            return self._space.sample(rng), True
        return self._budgeted.draw(rng)

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train one architecture on one batch."""
        training = self.training
        arch, fits = self.path(training.step)
        activate_unchecked(training.model, arch)
        loss = training.loss(train)
        training.descend(loss)
        row: Metrics = {"loss": loss.detach()}
        return row | {"in_budget": float(fits)} if self._budgeted is not None else row


def _check_hypernetwork(model: nn.Module) -> None:
    if not any(isinstance(module, Hypernetwork) for module in model.modules()):
        raise InvalidSpace(
            "smash trains a hypernetwork, and the model has none: search the space 'smash', or put "
            "a model with GeneratedConv2d layers into a raynas.nn.hypernetwork.Hypernetwork"
        )
