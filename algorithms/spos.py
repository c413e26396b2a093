"""Single Path One-Shot (Guo et al., 2020, arXiv:1904.00420): one uniform path per batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.nn.choice import LayerChoice
from raynas.nn.mutable import activate_unchecked, mutables, space_of
from raynas.supernet.inherit import spread_weights
from raynas.supernet.protocol import ONE_SHOTS, Batch, Metrics, Training, cosine
from raynas.supernet.weights_only import WeightsOnly


@ONE_SHOTS.register("spos", aliases=("RandomOneShot", "SinglePathTrainer"))
@dataclass(kw_only=True, eq=False)
class SPOS(WeightsOnly):
    """Trains a supernet by sampling, for every batch, one architecture uniformly.

    Differs: by default it first trains a single path and starts all candidates from it. From
    random weights, spaces of many positions and candidates (21 of 6, say) do not begin to learn
    for thousands of steps, since a path seldom meets weights that fit its own.

    Args:
        seed: fixes the paths.
        warm_start_steps: training steps of the first path, made of every choice's first
            candidate that has weights, at most half of all steps; 0 is the published algorithm.
        warm_start_lr_scale: learning rate of these steps over that of the others.
        warm_start_noise: noise on inherited weights, as a share of their standard deviation.

    Raises:
        ValueError: a negative setting.
    """

    seed: int = 0
    warm_start_steps: int = 100
    warm_start_lr_scale: float = 2.0
    warm_start_noise: float = 0.05

    def __post_init__(self) -> None:
        for name in ("warm_start_steps", "warm_start_lr_scale", "warm_start_noise"):
            if (value := vars(self)[name]) < 0:
                raise ValueError(f"{name} must not be negative, got {value}")

    def attach(self, training: Training) -> None:
        """Read the space off the model."""
        super().attach(training)
        self._space = space_of(training.model)
        self._first = first_path(self._space, training.model)
        self._left_out = 0

    def path(self, step: int) -> Arch:
        """Return the architecture of a step: a function of the seed, so equal on all ranks."""
        if step < self._warm_steps(self.training.steps):
            return self._first
        return self._space.sample(np.random.default_rng([self.seed, step]))

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        """Train one path on one batch."""
        training = self.training
        if training.step == self._warm_steps(training.steps) > 0:
            self._spread()
        activate_unchecked(training.model, self.path(training.step))
        loss = training.loss(train)
        training.descend(loss)
        return {"loss": loss.detach()}

    def _warm_steps(self, steps: int) -> int:
        return min(self.warm_start_steps, steps // 2)

    def _spread(self) -> None:
        """Give the trained path's weights to all candidates, and forget its momentum."""
        activate_unchecked(self.training.model, self._first)
        rng = torch.Generator().manual_seed(self.seed)
        left_out = spread_weights(self.training.model, self.warm_start_noise, rng)
        self._left_out = len(left_out)
        self.training.optimizer.state.clear()

    def lr_scale(self, step: int, steps: int) -> float:
        """Return a cosine with a rise for the warm start, and another for the paths after it."""
        warm = self._warm_steps(steps)
        if step < warm:
            return self.warm_start_lr_scale * min(1.0, (step + 1) / max(0.1 * warm, 1.0))
        return cosine(step - warm, steps - warm)

    def epoch_end(self) -> Metrics:
        """Add how many candidates could not inherit at the warm start's end, and began afresh."""
        return {"not_inherited": float(self._left_out)} if self.warm_start_steps else {}

    def state_dict(self) -> dict[str, Any]:
        """Return what the history repeats: paths are functions of seed and step."""
        return {"left_out": self._left_out}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        self._left_out = state["left_out"]


def first_path(space: ArchSpace, model: nn.Module) -> Arch:
    """Return the first architecture whose choices take, where they can, a candidate with weights.

    Others inherit from it, and from one without weights nobody could.
    """
    trained: dict[str, Value] = {}
    for choice in mutables(model):
        if isinstance(choice, LayerChoice):
            pairs = zip(choice.options, choice.layers(), strict=True)
            heavy = [
                option for option, layer in pairs if next(layer.parameters(), None) is not None
            ]
            if heavy:
                trained.setdefault(str(choice.label), heavy[0])

    def pick(decision: Decision) -> Value:
        wanted = trained.get(decision.label)
        if wanted is None or not isinstance(decision, Choice) or wanted not in decision.options:
            return next(iter(decision.values()))
        return wanted

    return space.decided(pick)
