"""What an evaluator may be, besides a plain function: each kind is one method.

With an attribute ``deterministic`` that is true, any of them, a function too, says that it gives an
architecture the same metrics whatever the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.evaluator import SuccessiveHalving

if TYPE_CHECKING:
    from torch import nn

    from raynas.data.module import DataModule

Metrics = Mapping[str, float]
Kind = Literal["arch", "network", "training", "function"]
METHODS = ("bind", "measure", "train_epochs")


@runtime_checkable
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


@runtime_checkable
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


@runtime_checkable
class TrainingEvaluator(Protocol):
    """Trains a built network; an attribute ``metrics`` names what it always gives.

    With an attribute ``metrics_of_task`` that is true, it gives those of ``data.task`` as well. An
    attribute ``epochs`` says how many there are. With an attribute ``stopping``, a
    ``SuccessiveHalving``, weak architectures are stopped early.
    """

    def train_epochs(self, net: nn.Module, data: DataModule, seed: int) -> Iterator[Metrics]:
        """Train, and yield the metrics after every epoch; arguments as ``NetworkEvaluator``'s.

        While it waits at a ``yield``, ``net`` has the weights whose metrics are yielded: the end of
        a search keeps those of the best.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What an evaluator says of itself, with the defaults of what it leaves out.

    Attributes:
        kind: by its method; what has none of the three is a function.
        metrics: that it always gives; None if it does not say.
        metrics_of_task: whether it gives those of the data's task.
        epochs: of each training; 0 where none is.
        stopping: of weak trainings; None without.
        deterministic: whether another seed gives an architecture the same metrics.
    """

    kind: Kind
    metrics: tuple[str, ...] | None = None
    metrics_of_task: bool = False
    epochs: int = 0
    stopping: SuccessiveHalving | None = None
    deterministic: bool = False


def declaration(evaluator: Any) -> Declaration:
    """Return what an evaluator, an object or the class of one, says of itself.

    Raises:
        TypeError: it trains and does not say for how many epochs.
    """
    metrics = getattr(evaluator, "metrics", None)
    metrics = tuple(metrics) if isinstance(metrics, tuple | list) else None
    of_task = bool(getattr(evaluator, "metrics_of_task", False))
    deterministic = bool(getattr(evaluator, "deterministic", False))
    if isinstance(evaluator, TrainingEvaluator):
        epochs = getattr(evaluator, "epochs", None)
        if not isinstance(evaluator, type) and (type(epochs) is not int or epochs < 1):
            raise TypeError(
                f"evaluator: {type(evaluator).__name__} has a method train_epochs, and its "
                f"attribute epochs must be a whole number of at least 1, got {epochs!r}"
            )
        return Declaration(
            kind="training",
            metrics=metrics,
            metrics_of_task=of_task,
            epochs=epochs if isinstance(epochs, int) else 0,
            stopping=getattr(evaluator, "stopping", None),
            deterministic=deterministic,
        )
    if isinstance(evaluator, NetworkEvaluator):
        return Declaration(
            kind="network",
            metrics=metrics,
            metrics_of_task=of_task,
            deterministic=deterministic,
        )
    return Declaration(
        kind="arch" if isinstance(evaluator, ArchEvaluator) else "function",
        metrics=metrics,
        deterministic=deterministic,
    )
