"""Algorithms that train a supernet's weights and leave the search to a sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from raynas.core.arch import Value
from raynas.supernet.protocol import Distribution, Metrics, OneShot, Training, cosine


class WeightsOnly(OneShot):
    """Trains weights by sampled architectures, none of which it prefers.

    A subclass says what a step does; where it keeps a state besides weights and their optimizer it
    extends ``state_dict`` and ``load_state_dict``.
    """

    learns: ClassVar[bool] = False

    def attach(self, training: Training) -> None:
        """Take what the loop lends."""
        self.training = training

    def lr_scale(self, step: int, steps: int) -> float:
        """Return a cosine with a rise over the first tenth."""
        return cosine(step, steps)

    def epoch_end(self) -> Metrics:
        """Return nothing."""
        return {}

    def derive(self) -> dict[str, Value]:
        """Raise LookupError: all architectures are equally good to it."""
        raise LookupError(
            f"{type(self).__name__} learns no architecture: search its supernet with a sampler"
        )

    def top_k(self, count: int) -> list[dict[str, Value]]:
        """Return nothing: all architectures are equally likely."""
        return []

    def distribution(self) -> Distribution:
        """Return nothing: none is learned."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what is sampled is a function of seed and step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
