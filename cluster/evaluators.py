"""What a worker process measures with; each is made in the worker, from a recipe that travels."""

from __future__ import annotations

import inspect
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import ray

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

    from raynas.data.module import DataModule
    from raynas.evaluators.loaded import Loaded
    from raynas.nn.modelspace import ModelSpace

COSTS = ("params", "macs", "activation_bytes")
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
    def stopping(self) -> Halving | None:
        """How trainings are stopped early; None if they are not."""
        ...

    def make(self) -> Evaluator:
        """Return the evaluator; data and weights are loaded here."""
        ...


@dataclass(frozen=True)
class SharedRecipe:
    """Sub-networks that inherit a supernet's weights (see ``raynas.nn.scoring``).

    Attributes:
        pickled: the space and the data, pickled by Ray, so that torch is only imported on use.
        arrays: the supernet's weights in the object store, once a node.
        seed: which images calibrate and validate.
        threads: of torch.
        gpu: whether the worker was given one.
    """

    pickled: bytes
    arrays: Any
    seed: int
    threads: int
    gpu: bool = False
    name: str = "shared"
    metrics: tuple[str, ...] = SHARED_METRICS
    epochs: int = 0
    stopping: Halving | None = None

    def make(self) -> Evaluator:
        """Return the evaluator."""
        import torch

        torch.set_num_threads(self.threads)
        space, data = ray.cloudpickle.loads(self.pickled)
        return SharedEvaluator(space, data, ray.get(self.arrays), self.seed, gpu=self.gpu)


class SharedEvaluator:
    """Scores sub-networks of one supernet whose weights are shared memory."""

    def __init__(
        self, space: ModelSpace, data: DataModule, arrays: Any, seed: int, *, gpu: bool = False
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
        self._costs = CostTable(supernet, splits.train[0][:1])
        self._scorer = SubnetScorer(supernet, splits.train, splits.valid, seed=seed)

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
    """

    pickled: bytes
    metrics: tuple[str, ...]
    name: str
    threads: int
    gpu: bool = False
    epochs: int = 0
    stopping: Halving | None = None

    def make(self) -> Evaluator:
        """Return the evaluator."""
        import torch

        from raynas.evaluators.loaded import Loaded

        torch.set_num_threads(self.threads)
        thing, space, data = ray.cloudpickle.loads(self.pickled)
        held = Loaded(data, torch.device("cuda" if self.gpu else "cpu"))
        if self.epochs:
            return NetworkTrainer(thing, space, held, self.epochs)
        return NetworkMeasurer(thing, space, held)


class _Networks:
    """Builds architectures from one supernet, all from the same initial weights.

    What it returns equals ``space.build(arch, seed=seed)``, without another supernet each time.
    """

    def __init__(self, space: ModelSpace, data: Loaded) -> None:
        from raynas.costs.table import CostTable

        self._space, self._device = space, data.device
        self._supernets: dict[int, nn.Module] = {}
        example = data.load().train[0][:1]
        self._costs = CostTable(space.supernet().to(data.device), example)

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
        return net.to(self._device).train()


class NetworkMeasurer:
    """Calls an object's ``measure`` for one built network after another.

    Args:
        thing: a ``NetworkEvaluator``.
        space: builds the networks.
        data: loaded, on the device that networks are to be on.
    """

    def __init__(self, thing: Any, space: ModelSpace, data: Loaded) -> None:
        self._thing, self._data = thing, data
        self._networks = _Networks(space, data)

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
        self._networks = _Networks(space, data)

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return what the whole training gives, or what it raises, for every architecture."""
        return [list(self.by_epoch(arch, seed))[-1] for arch in archs]

    def by_epoch(self, arch: Arch, seed: int) -> Iterator[Measurement]:
        """Yield a measurement per epoch; the last is of the whole training, or says what failed."""
        started_s, taken_s = time.time(), 0.0
        rounds: Iterator[Mapping[str, float]] | None = None

        def advance() -> object:
            nonlocal rounds
            if rounds is None:
                net = self._networks.build(arch, seed)
                rounds = iter(self._thing.train_epochs(net, self._data, seed))
            return _with(self._networks.costs(arch), next(rounds, None))

        for epoch in range(1, self._epochs + 1):
            found = measure(advance)
            taken_s += found.duration_s
            trained = epoch if found.error is None else epoch - 1
            yield replace(found, started_s=started_s, duration_s=taken_s, epochs=trained)
            if found.error is not None:
                return


def _with(costs: Mapping[str, float], found: object) -> object:
    """Return what was measured, costs added; what is no mapping is refused elsewhere."""
    return {**costs, **found} if isinstance(found, Mapping) else found


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
