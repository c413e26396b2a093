"""Latencies looked up in a table, or measured, beside what another evaluator measures."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raynas.core.arch import Arch
from raynas.core.evaluator import Budget, Evaluator, Measurement
from raynas.core.metrics import LATENCY
from raynas.evaluators.spec import EvaluatorSpec, MakeEvaluator, Worker

if TYPE_CHECKING:
    from raynas.costs.latency import LatencyTable
    from raynas.costs.measured_latency import MeasuredLatency

    Latencies = LatencyTable | MeasuredLatency


def with_latency(spec: EvaluatorSpec, table: Latencies | None) -> EvaluatorSpec:
    """Return the spec with latencies looked up as well; as it is without a table."""
    if table is None:
        return spec
    metrics = tuple(dict.fromkeys((*spec.metrics, LATENCY)))
    return replace(spec, metrics=metrics, make=MakeWithLatency(spec.make, table))


@dataclass(frozen=True)
class MakeWithLatency:
    """Makes another evaluator with latencies beside it.

    Attributes:
        make: makes the other.
        table: of latencies.
    """

    make: MakeEvaluator
    table: Latencies

    def __call__(self, worker: Worker) -> Evaluator:
        """Return the evaluator."""
        return LatencyEvaluator(self.make(worker), self.table)


class LatencyEvaluator(Evaluator):
    """Adds the latency to what another evaluator measures.

    Args:
        evaluator: the other.
        table: of latencies.
    """

    def __init__(self, evaluator: Evaluator, table: Latencies) -> None:
        self._evaluator, self._table = evaluator, table

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return the other's measurements; one that failed stays as it is."""
        measured = self._evaluator(archs, budget, seed)
        return [self._timed(*pair) for pair in zip(archs, measured, strict=True)]

    def by_epoch(self, arch: Arch, seed: int) -> Generator[Measurement, None, None]:
        """Yield the other's measurements by epoch."""
        with closing(self._evaluator.by_epoch(arch, seed)) as epochs:
            for measurement in epochs:
                yield self._timed(arch, measurement)

    def ready(self) -> None:
        """Return when the other can begin."""
        self._evaluator.ready()

    def close(self) -> None:
        """End what the other has started."""
        self._evaluator.close()

    def _timed(self, arch: Arch, measured: Measurement) -> Measurement:
        if measured.error is not None:
            return measured
        if LATENCY in measured.metrics:
            text = f"the evaluator gives {LATENCY} itself: leave out latency="
            return replace(measured, metrics={}, error=text)
        return replace(
            measured, metrics={**measured.metrics, **self._table.cost(arch).as_metrics()}
        )
