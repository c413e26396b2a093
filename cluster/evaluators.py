"""What a worker process measures with; each is made in the worker, from a recipe that travels."""

from __future__ import annotations

import inspect
import time
import typing
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import ray

from raynas.cluster.crew import Crew
from raynas.core.arch import Arch
from raynas.core.evaluator import (
    Budget,
    Evaluator,
    Halving,
    Measurement,
    measure,
)

if TYPE_CHECKING:
    from torch import nn

    from raynas.costs.latency import LatencyTable
    from raynas.costs.table import CostTable
    from raynas.data.module import DataModule
    from raynas.evaluators.loaded import Loaded
    from raynas.nn.modelspace import ModelSpace

COSTS = ("params", "macs", "activation_bytes")
SHARED_METRICS = ("accuracy", "loss", *COSTS)
LATENCY = "latency_ms"


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
    def stopping(self) -> Halving | None:
        """How trainings are stopped early; None if they are not."""
        ...

    @property
    def crew(self) -> Crew | None:
        """The processes that train each architecture; None if the worker itself measures it."""
        ...

    def make(self) -> Evaluator:
        """Return the evaluator; data and weights are loaded here."""
        ...


@dataclass(frozen=True)
class SharedRecipe:
    """Sub-networks that inherit a supernet's weights (see ``raynas.nn.scoring``).

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
    stopping: Halving | None = None
    crew: Crew | None = None

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

        from raynas.costs.table import CostTable
        from raynas.nn.scoring import SubnetScorer
        from raynas.nn.weights import share_arrays

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
    stopping: Halving | None = None
    crew: Crew | None = None

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


@dataclass(frozen=True)
class NetworkRecipe:
    """An object that measures or trains built networks (see ``raynas.evaluators.protocols``).

    Costs are looked up beside it, so that every row has them.

    Attributes:
        pickled: the object, the space and the data, pickled by Ray.
        metrics: what it always gives, costs included.
        name: what stands in the ``evaluator`` column.
        threads: of torch.
        gpu: whether the worker was given one.
        epochs: of each training; 0 if it does not train.
        stopping: how trainings are stopped early; None if they are not.
        crew: the processes that train each network together; None if the worker does it alone.
    """

    pickled: bytes
    metrics: tuple[str, ...]
    name: str
    threads: int
    gpu: bool = False
    epochs: int = 0
    stopping: Halving | None = None
    crew: Crew | None = None

    def make(self) -> Evaluator:
        """Return the evaluator."""
        import torch

        from raynas.evaluators.loaded import Loaded

        torch.set_num_threads(self.threads)
        thing, space, data = ray.cloudpickle.loads(self.pickled)
        alone = self.crew is None
        held = Loaded(data, torch.device("cuda" if self.gpu and alone else "cpu"))
        if self.crew is not None:
            from raynas.cluster.nested import NestedTrainer

            return NestedTrainer(self.pickled, Networks(space, held), self.epochs, self.crew)
        if self.epochs:
            return NetworkTrainer(thing, space, held, self.epochs)
        return NetworkMeasurer(thing, space, held)


class Networks:
    """Builds architectures from one supernet, all from the same initial weights.

    What it returns equals ``space.build(arch, seed=seed)``, without another supernet each time.
    """

    def __init__(self, space: ModelSpace, data: Loaded) -> None:
        self._space, self._data = space, data
        self._supernets: dict[int, nn.Module] = {}

    @cached_property
    def _costs(self) -> CostTable:
        from raynas.costs.table import CostTable

        example = self._data.load().train[0][:1]
        return CostTable(self._space.supernet().to(self._data.device), example)

    def costs(self, arch: Arch) -> dict[str, float]:
        """Return what an architecture costs."""
        return self._costs.cost(arch).as_metrics()

    def build(self, arch: Arch, seed: int) -> nn.Module:
        """Return a network on the device, in training mode."""
        import torch

        from raynas.nn.mutable import freeze

        if seed not in self._supernets:
            self._supernets = {seed: self._space.supernet(seed)}
        with torch.random.fork_rng(devices=[]):  # some layers draw weights that are replaced
            net = freeze(self._supernets[seed], arch)
        return net.to(self._data.device).train()


class NetworkMeasurer:
    """Calls an object's ``measure`` for one built network after another.

    Args:
        thing: a ``NetworkEvaluator``.
        space: builds the networks.
        data: loaded, on the device that networks are to be on.
    """

    def __init__(self, thing: Any, space: ModelSpace, data: Loaded) -> None:
        self._thing, self._data = thing, data
        self._networks = Networks(space, data)

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return what the object gives, or what it raises, for every architecture."""
        return [measure(lambda arch=arch: self._measure(arch, seed)) for arch in archs]  # type: ignore[misc]

    def _measure(self, arch: Arch, seed: int) -> object:
        net = self._networks.build(arch, seed)
        return _with(self._networks.costs(arch), self._thing.measure(net, self._data, seed))


class NetworkTrainer:
    """Trains one built network after another by an object's ``train_epochs``.

    Args:
        thing: a ``TrainingEvaluator``.
        space: builds the networks.
        data: loaded, on the device that networks are to be on.
        epochs: how many mappings of metrics ``train_epochs`` yields.
    """

    def __init__(self, thing: Any, space: ModelSpace, data: Loaded, epochs: int) -> None:
        self._thing, self._data, self._epochs = thing, data, epochs
        self._networks = Networks(space, data)

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return what the whole training gives, or what it raises, for every architecture."""
        return [list(self.by_epoch(arch, seed))[-1] for arch in archs]

    def by_epoch(self, arch: Arch, seed: int) -> Generator[Measurement, None, None]:
        """Yield a measurement per epoch; the last is of the whole training, or says what failed."""
        started_s, taken_s = time.time(), 0.0
        rounds = self.rounds(arch, seed)
        with closing(rounds):
            for epoch in range(1, self._epochs + 1):
                found = measure(lambda: _with(self._networks.costs(arch), next(rounds, None)))
                taken_s += found.duration_s
                trained = epoch if found.error is None else epoch - 1
                yield replace(found, started_s=started_s, duration_s=taken_s, epochs=trained)
                if found.error is not None:
                    return

    def rounds(self, arch: Arch, seed: int) -> Generator[Mapping[str, float], None, None]:
        """Build an architecture, and yield what is measured after every epoch of its training."""
        yield from self._thing.train_epochs(self._networks.build(arch, seed), self._data, seed)


def _with(costs: Mapping[str, float], found: object) -> object:
    """Return what was measured, costs added; what is no mapping is refused elsewhere."""
    return {**costs, **found} if isinstance(found, Mapping) else found


@dataclass(frozen=True)
class TimedRecipe:
    """Another recipe's evaluator, with latencies looked up beside it.

    Attributes:
        inner: the other.
        pickled: the latency table, pickled by Ray.
    """

    inner: Recipe
    pickled: bytes

    @property
    def name(self) -> str:
        """What stands in the ``evaluator`` column."""
        return self.inner.name

    @property
    def metrics(self) -> tuple[str, ...]:
        """The other's, and the latency."""
        return tuple(dict.fromkeys((*self.inner.metrics, LATENCY)))

    @property
    def epochs(self) -> int:
        """How long each architecture is trained."""
        return self.inner.epochs

    @property
    def stopping(self) -> Halving | None:
        """How trainings are stopped early."""
        return self.inner.stopping

    @property
    def crew(self) -> Crew | None:
        """The processes that train each architecture."""
        return self.inner.crew

    def make(self) -> Evaluator:
        """Return the evaluator."""
        return TimedEvaluator(self.inner.make(), ray.cloudpickle.loads(self.pickled))


class TimedEvaluator:
    """Adds the latency to what another evaluator measures.

    Args:
        inner: the other.
        table: of latencies.
    """

    def __init__(self, inner: Any, table: LatencyTable) -> None:
        self._inner, self._table = inner, table

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return the other's measurements; one that failed stays as it is."""
        found = self._inner(archs, budget, seed)
        return [self._timed(arch, one) for arch, one in zip(archs, found, strict=True)]

    def by_epoch(self, arch: Arch, seed: int) -> Generator[Measurement, None, None]:
        """Yield the other's measurements by epoch."""
        with closing(self._inner.by_epoch(arch, seed)) as epochs:
            for found in epochs:
                yield self._timed(arch, found)

    def ready(self) -> None:
        """Return when the other can begin."""
        if hasattr(self._inner, "ready"):
            self._inner.ready()

    def close(self) -> None:
        """End what the other has started."""
        if hasattr(self._inner, "close"):
            self._inner.close()

    def _timed(self, arch: Arch, found: Measurement) -> Measurement:
        if found.error is not None:
            return found
        if LATENCY in found.metrics:
            text = f"the evaluator gives {LATENCY} itself: leave out latency="
            return replace(found, metrics={}, error=text)
        return replace(found, metrics={**found.metrics, **self._table.cost(arch).as_metrics()})


def timed(recipe: Recipe, table: LatencyTable | None) -> Recipe:
    """Return the recipe, or one that looks up latencies as well."""
    return recipe if table is None else TimedRecipe(recipe, ray.cloudpickle.dumps(table))


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
