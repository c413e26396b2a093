"""What an evaluator may be, besides a plain function: each kind is one method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from torch import nn

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.data.module import DataModule

Metrics = Mapping[str, float]


class ArchEvaluator(Protocol):
    """Knows architectures without building them; works for a plain ArchSpace too."""

    def bind(self, space: ArchSpace, objectives: Sequence[str]) -> Callable[[Arch], Metrics]:
        """Return the function that measures architectures of ``space``.

        It is called before anything starts, so that what does not fit is said at once; the function
        travels to the workers. An attribute ``metrics`` of the function names what it can give.

        Args:
            space: of the architectures.
            objectives: metrics that are searched for.
        """
        ...


class NetworkEvaluator(Protocol):
    """Measures a built network; an attribute ``metrics`` names what it always gives."""

    def measure(self, net: nn.Module, data: DataModule, seed: int) -> Metrics:
        """Return the metrics of a network with fresh initial weights.

        Args:
            net: built for this call, in training mode; it may be changed.
            data: already loaded, on the network's device.
            seed: the run's; fixes whatever is drawn.
        """
        ...


class TrainingEvaluator(Protocol):
    """Trains a built network; an attribute ``metrics`` names what it always gives.

    With an attribute ``stopping``, a ``SuccessiveHalving``, weak architectures are stopped early.

    Attributes:
        epochs: how many there are.
    """

    epochs: int

    def train_epochs(self, net: nn.Module, data: DataModule, seed: int) -> Iterator[Metrics]:
        """Train, and yield the metrics after every epoch; arguments as ``NetworkEvaluator``'s."""
        ...
