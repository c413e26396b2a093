"""The record of one evaluated architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from raynas.core.arch import Arch

Status = Literal["completed", "failed", "infeasible", "duplicate"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was asked, what came back, and when.

    Attributes:
        number: position in the order of asks, from 0.
        objective: the score that the search maximises (a metric to be minimised enters negated);
            None unless the evaluation gave one.
        scores: one number per objective, all to be maximised; with a single objective it is that
            objective or nothing.
        metrics: every measured number under its own name, as measured.
        text_metrics: what the evaluation said in words, likewise.
        epochs: training epochs of this architecture alone (0 with inherited weights).
        asked_event: place of the ask in the run's order of asks and tells, so that replay is exact.
        told_event: place of the tell in the same order.
        duration_s: seconds of evaluation.
        node: name of the machine that evaluated it.
        worker: process id of the worker that evaluated it.
        error: why it failed.
        traceback: of what failed; it stands in no table.
        left_out: what the evaluation returned that is neither a number nor text, and why.
        parent: key of the architecture that this one was changed from, if the sampler says so.
        predicted: the objective that the sampler's model expected, if it has one.
    """

    arch: Arch
    number: int = 0
    status: Status = "completed"
    objective: float | None = None
    scores: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    text_metrics: Mapping[str, str] = field(default_factory=dict)
    algo: str = ""
    evaluator: str = ""
    epochs: int = 0
    seed: int = 0
    asked_event: int = 0
    told_event: int = 0
    started_utc: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    finished_utc: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    duration_s: float = 0.0
    node: str = ""
    worker: str = ""
    error: str | None = None
    traceback: str | None = field(default=None, repr=False, compare=False)
    left_out: str | None = None
    parent: str | None = None
    predicted: float | None = None

    @classmethod
    def completed(cls, arch: Arch, objective: float, **metrics: float) -> Trial:
        """Return a finished trial to tell a sampler, from an architecture and its score."""
        return cls(arch=arch, objective=float(objective), metrics=metrics)

    @classmethod
    def scored_as(cls, arch: Arch, scores: Sequence[float], **metrics: float) -> Trial:
        """Return a finished trial of several objectives, all to be maximised.

        >>> Trial.scored_as(Arch({"depth": 2}), [0.9, -1.5]).objective
        0.9
        """
        values = tuple(map(float, scores))
        return cls(arch=arch, objective=values[0], scores=values, metrics=metrics)

    @classmethod
    def failed(cls, arch: Arch, error: str) -> Trial:
        """Return a trial whose evaluation gave no score."""
        return cls(arch=arch, status="failed", error=error)

    @property
    def scored(self) -> bool:
        """Whether there is a score to learn from."""
        return self.objective is not None
