"""Measuring or training built networks, in a worker process."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ray

from raynas.core.arch import Arch
from raynas.core.evaluator import Budget, Evaluator, Measurement, SuccessiveHalving, measure
from raynas.evaluators.training_group import TrainingGroup

if TYPE_CHECKING:
    from torch import nn

    from raynas.costs.cost_table import CostTable
    from raynas.evaluators.loaded import Loaded
    from raynas.nn.modelspace import ModelSpace


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
    stopping: SuccessiveHalving | None = None
    crew: TrainingGroup | None = None

    def make(self) -> Evaluator:
        """Return the evaluator."""
        import torch

        from raynas.evaluators.loaded import Loaded

        torch.set_num_threads(self.threads)
        thing, space, data = ray.cloudpickle.loads(self.pickled)
        alone = self.crew is None
        held = Loaded(data, torch.device("cuda" if self.gpu and alone else "cpu"))
        if self.crew is not None:
            from raynas.cluster.distributed_trials import NestedTrainer

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
        from raynas.costs.cost_table import CostTable

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
