"""What a worker process measures with; each is made in the worker, from a recipe that travels."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import ray

from raynas.core.arch import Arch
from raynas.core.evaluator import (
    Budget,
    Evaluator,
    Measurement,
    SuccessiveHalving,
    measure,
)
from raynas.core.metrics import COSTS
from raynas.evaluators.training_group import TrainingGroup

if TYPE_CHECKING:
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace

SHARED_METRICS = ("accuracy", "loss", *COSTS)


class Recipe(Protocol):
    """Makes an evaluator inside a worker; cheap to send and to unpickle."""

    @property
    def name(self) -> str:
        """What stands in the ``evaluator`` column."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that are always given."""
        ...

    @property
    def epochs(self) -> int:
        """How long each architecture is trained; 0 if none is, else ``make`` can tell by epoch."""
        ...

    @property
    def stopping(self) -> SuccessiveHalving | None:
        """How trainings are stopped early; None if they are not."""
        ...

    @property
    def crew(self) -> TrainingGroup | None:
        """The processes that train each architecture; None if the worker itself measures it."""
        ...

    def make(self) -> Evaluator:
        """Return the evaluator; data and weights are loaded here."""
        ...


@dataclass(frozen=True)
class SharedRecipe:
    """Sub-networks that inherit a supernet's weights (see ``raynas.supernet.scoring``).

    Attributes:
        pickled: the space that builds the supernet, that of whole networks (mostly the same), and
            the data, pickled by Ray, so that torch is only imported on use.
        arrays: the supernet's weights in the object store, once a node.
        seed: which images calibrate and validate.
        threads: of torch.
        gpu: whether the worker was given one.
        settings: options of the ``SubnetScorer``.
    """

    pickled: bytes
    arrays: Any
    seed: int
    threads: int
    gpu: bool = False
    settings: Mapping[str, int] = field(default_factory=dict)
    name: str = "shared"
    metrics: tuple[str, ...] = SHARED_METRICS
    epochs: int = 0
    stopping: SuccessiveHalving | None = None
    crew: TrainingGroup | None = None

    def make(self) -> Evaluator:
        """Return the evaluator."""
        import torch

        torch.set_num_threads(self.threads)
        space, whole, data = ray.cloudpickle.loads(self.pickled)
        arrays = ray.get(self.arrays)
        return SharedEvaluator(
            space, data, arrays, self.seed, whole=whole, gpu=self.gpu, settings=self.settings
        )


class SharedEvaluator:
    """Scores sub-networks of one supernet whose weights are shared memory.

    Args:
        space: builds the supernet.
        data: to calibrate and score with.
        arrays: the supernet's weights.
        seed: which images.
        whole: builds the networks whose costs count, where those are not the supernet's own.
        gpu: whether to work on one.
        settings: options of the ``SubnetScorer``.
    """

    def __init__(
        self,
        space: ModelSpace,
        data: DataModule,
        arrays: Any,
        seed: int,
        *,
        whole: ModelSpace | None = None,
        gpu: bool = False,
        settings: Mapping[str, int] | None = None,
    ) -> None:
        import torch

        from raynas.costs.cost_table import CostTable
        from raynas.supernet.checkpoint import share_arrays
        from raynas.supernet.scoring import SubnetScorer

        device = torch.device("cuda" if gpu else "cpu")
        supernet = space.skeleton()
        share_arrays(supernet, arrays)
        splits = data.load().to(device)
        supernet = supernet.to(device)
        other = None if whole is space else whole
        costed = supernet if other is None else other.supernet().to(device)
        self._costs = CostTable(costed, splits.train[0][:1])
        self._scorer = SubnetScorer(
            supernet, splits.train, splits.valid, seed=seed, **(settings or {})
        )

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return accuracy, loss and costs of every architecture."""
        return [measure(lambda arch=arch: self._measure(arch)) for arch in archs]  # type: ignore[misc]

    def _measure(self, arch: Arch) -> dict[str, float]:
        return self._scorer.score(arch) | self._costs.cost(arch).as_metrics()


@dataclass(frozen=True)
class FunctionRecipe:
    """A function of an architecture, or of the module built from it.

    Attributes:
        pickled: the function and the space to build modules from (or None), pickled by Ray.
        metrics: what it gives; of a user's own function only the objectives are known.
    """

    pickled: bytes
    metrics: tuple[str, ...]
    name: str = "function"
    epochs: int = 0
    stopping: SuccessiveHalving | None = None
    crew: TrainingGroup | None = None

    def make(self) -> Evaluator:
        """Return the evaluator."""
        function, space = ray.cloudpickle.loads(self.pickled)
        return FunctionEvaluator(function, self.metrics, space)


class FunctionEvaluator:
    """Calls a function for one architecture after another.

    Args:
        function: returns a dict of metrics, or a bare number for a single objective.
        metrics: the objectives.
        space: if given, the function gets the built module instead of the architecture.
    """

    def __init__(
        self,
        function: Callable[[Any], object],
        metrics: tuple[str, ...],
        space: ModelSpace | None = None,
    ) -> None:
        self._function, self._metrics, self._space = function, metrics, space

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return what the function gives, or what it raises, for every architecture."""
        return [measure(lambda arch=arch: self._call(arch, seed), self._metrics) for arch in archs]  # type: ignore[misc]

    def _call(self, arch: Arch, seed: int) -> object:
        return self._function(arch if self._space is None else self._space.build(arch, seed=seed))


def wants_module(function: Callable[..., object]) -> bool:
    """Return whether the function's first parameter is annotated as an ``nn.Module``."""
    plain = function.func if isinstance(function, partial) else function
    if not inspect.isroutine(plain) and not inspect.isclass(plain):
        plain = type(plain).__call__
    try:
        hints = typing.get_type_hints(plain)
        first = next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError, NameError):
        return False
    kind = hints.get(first)
    return isinstance(kind, type) and any(c.__module__.startswith("torch.nn") for c in kind.__mro__)
