"""Latencies looked up in a table, beside what another evaluator measures."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray

from raynas.cluster.evaluators import Recipe
from raynas.core.arch import Arch
from raynas.core.evaluator import Budget, Evaluator, Measurement, SuccessiveHalving
from raynas.core.metrics import LATENCY
from raynas.evaluators.training_group import TrainingGroup

if TYPE_CHECKING:
    from raynas.costs.latency import LatencyTable


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
    def stopping(self) -> SuccessiveHalving | None:
        """How trainings are stopped early."""
        return self.inner.stopping

    @property
    def crew(self) -> TrainingGroup | None:
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
