"""How workers evaluate: what is known beforehand, and how an evaluator is made in a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from raynas.core.evaluator import Evaluator, SuccessiveHalving


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What an evaluator is made with, in the process that evaluates.

    Attributes:
        threads: of torch.
        gpu: whether the process was given one.
        weights: a ``SharedWeights``, whose arrays all workers of a node share; only to be read.
        distributed: makes, of a ``MakeNetworkEvaluator``, the evaluator that has a training group
            train; None if the process trains by itself.
    """

    threads: int = 1
    gpu: bool = False
    weights: Any = None
    distributed: Callable[[Any], Evaluator] | None = None


class MakeEvaluator(Protocol):
    """Makes an evaluator; cheap to send, and data and weights are loaded when it is called."""

    def __call__(self, worker: Worker) -> Evaluator:
        """Return the evaluator of a worker."""
        ...


@dataclass(frozen=True, kw_only=True)
class EvaluatorSpec:
    """An evaluator as a study sees it; it is pickled once, where the study starts.

    Attributes:
        name: what stands in the ``evaluator`` column.
        metrics: names of the metrics that are always given.
        make: makes the evaluator in every worker.
        epochs: how long each architecture is trained; 0 if none is.
        stopping: how weak trainings are stopped; None if they are not.
        weights: a ``SharedWeights``, which travels once a node and not with ``make``.
        deterministic: whether another seed gives an architecture the same metrics.
    """

    name: str
    metrics: tuple[str, ...]
    make: MakeEvaluator
    epochs: int = 0
    stopping: SuccessiveHalving | None = None
    weights: Any = None
    deterministic: bool = False
