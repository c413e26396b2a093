"""An exponential moving average of a model's weights (Polyak and Juditsky, 1992, as in timm)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows the weights of a model, and its buffers of floating point.

    Differs: the decay rises to its value, as min(decay, (1 + n) / (10 + n)) after n steps, so that
    a short training is not held back by its first weights.

    Args:
        model: that is followed.
        decay: of the average, near 1.

    Attributes:
        tensors: the averages, by name.
        steps: taken.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self.decay, self.steps = model, decay, 0
        self.tensors = {name: value.clone() for name, value in self._live().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take one more step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in self._live().items():
            self.tensors[name].lerp_(value, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averages for a while."""
        before = {name: value.clone() for name, value in self._live().items()}
        self.write()
        try:
            yield
        finally:
            self._put(before)

    def write(self) -> None:
        """Give the model the averages."""
        self._put(self.tensors)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages, and how many steps they are of."""
        return {"steps": torch.tensor(self.steps), **self.tensors}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what ``state_dict`` gave."""
        self.steps = int(state["steps"])
        for name, value in self.tensors.items():
            value.copy_(state[name])

    def _live(self) -> dict[str, Tensor]:
        state = self._model.state_dict()
        return {name: value for name, value in state.items() if _averaged(value)}

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in self._live().items():
            value.copy_(tensors[name])


def _averaged(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
