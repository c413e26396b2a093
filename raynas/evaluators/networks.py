"""Evaluation by measuring or training built networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.evaluator import Budget, Evaluator, Measurement, measure
from raynas.evaluators.spec import Worker

if TYPE_CHECKING:
    from torch import nn

    from raynas.costs.cost_table import CostTable
    from raynas.data.module import DataModule
    from raynas.evaluators.loaded import Loaded
    from raynas.evaluators.weights_by_seed import WeightsBySeed
    from raynas.nn.modelspace import ModelSpace


@dataclass(frozen=True, kw_only=True)
class MakeNetworkEvaluator:
    """Makes the evaluator that has an object measure or train built networks.

    Costs are looked up beside it, so that every row has them.

    Attributes:
        evaluator: the object, a ``NetworkEvaluator`` or a ``TrainingEvaluator``.
        model_space: builds the networks.
        data: that they are measured or trained on.
        epochs: of each training; 0 if none is trained.
        weights: take what trained networks have learned; None drops it.
    """

    evaluator: Any
    model_space: ModelSpace
    data: DataModule
    epochs: int = 0
    weights: WeightsBySeed | None = None

    def __call__(self, worker: Worker) -> Evaluator:
        """Return the evaluator."""
        import torch

        from raynas.evaluators.loaded import Loaded

        torch.set_num_threads(worker.threads)
        if worker.distributed is not None:
            return worker.distributed(self)
        data = Loaded(self.data, torch.device("cuda" if worker.gpu else "cpu"))
        if self.epochs:
            return NetworkTrainer(self.evaluator, self.model_space, data, self.epochs, self.weights)
        return NetworkMeasurer(self.evaluator, self.model_space, data)


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
        from raynas.data.first_examples import first_inputs
        from raynas.data.split import split_of

        example = first_inputs(self._data, split_of(self._data.load().train), 1, self._data.device)
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


class NetworkMeasurer(Evaluator):
    """Calls an object's ``measure`` for one built network after another.

    Args:
        evaluator: a ``NetworkEvaluator``.
        space: builds the networks.
        data: loaded, on the device that networks are to be on.
    """

    def __init__(self, evaluator: Any, space: ModelSpace, data: Loaded) -> None:
        self._evaluator, self._data = evaluator, data
        self._networks = Networks(space, data)

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return what the object gives, or what it raises, for every architecture."""
        return [measure(partial(self._measure, arch, seed)) for arch in archs]

    def _measure(self, arch: Arch, seed: int) -> object:
        net = self._networks.build(arch, seed)
        return _with(self._networks.costs(arch), self._evaluator.measure(net, self._data, seed))


class NetworkTrainer(Evaluator):
    """Trains one built network after another by an object's ``train_epochs``.

    Args:
        evaluator: a ``TrainingEvaluator``.
        space: builds the networks.
        data: loaded, on the device that networks are to be on.
        epochs: how many mappings of metrics ``train_epochs`` yields.
        weights: take what networks have learned; None drops it.
    """

    def __init__(
        self,
        evaluator: Any,
        space: ModelSpace,
        data: Loaded,
        epochs: int,
        weights: WeightsBySeed | None = None,
    ) -> None:
        self._evaluator, self._data, self._epochs = evaluator, data, epochs
        self._weights = weights
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
                measured = measure(lambda: _with(self._networks.costs(arch), next(rounds, None)))
                taken_s += measured.duration_s
                trained = epoch if measured.error is None else epoch - 1
                yield replace(measured, started_s=started_s, duration_s=taken_s, epochs=trained)
                if measured.error is not None:
                    return

    def rounds(self, arch: Arch, seed: int) -> Generator[Mapping[str, float], None, None]:
        """Build an architecture, and yield what is measured after every epoch of its training."""
        net = self._networks.build(arch, seed)
        rounds = self._evaluator.train_epochs(net, self._data, seed)
        if self._weights is not None:
            rounds = keeping(rounds, self._epochs, partial(self._weights.keep, arch, net, seed))
        yield from rounds


def keeping(
    rounds: Iterable[Mapping[str, float]], epochs: int, keep: Callable[[], None]
) -> Generator[Mapping[str, float], None, None]:
    """Yield what a training yields, and call ``keep`` where it has come to its last epoch.

    Args:
        rounds: metrics after every epoch, while which are yielded the network is as measured.
        epochs: how many there are.
        keep: called before the last are yielded.
    """
    rounds = iter(rounds)
    try:
        for epoch, metrics in enumerate(rounds, 1):
            if epoch == epochs:
                keep()
            yield metrics
    finally:
        if isinstance(rounds, Generator):
            rounds.close()


def _with(costs: Mapping[str, float], measured: object) -> object:
    """Return what was measured, costs added; what is no mapping is refused elsewhere."""
    return {**costs, **measured} if isinstance(measured, Mapping) else measured
