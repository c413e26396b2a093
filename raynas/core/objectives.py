"""What is searched for: metrics to be maximised or minimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raynas.core.errors import nearest

Goal = Literal["max", "min"]


class MissingObjective(ValueError):
    """The evaluator does not return the metric that is searched for."""


@dataclass(frozen=True)
class Objective:
    """One metric and its direction.

    >>> Objective("loss", "min").score({"loss": 0.25})
    -0.25
    """

    metric: str
    goal: Goal = "max"

    def __post_init__(self) -> None:
        if self.goal not in ("max", "min"):
            raise ValueError(
                f"objective {self.metric!r}: expected 'max' or 'min', got {self.goal!r}"
            )

    @property
    def sign(self) -> int:
        """1 if the metric is maximised, -1 if it is minimised."""
        return 1 if self.goal == "max" else -1

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the number to maximise.

        Raises:
            MissingObjective: the metric is not there; the message names the nearest that is.
        """
        if self.metric not in metrics:
            hint = nearest(self.metric, metrics)
            raise MissingObjective(
                f"the evaluator returns no metric {self.metric!r}, the objective; {hint}"
            )
        return self.sign * metrics[self.metric]


def pareto_mask(scores_NM: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of N points no other point beats, all M scores to be maximised.

    A point is beaten by one that is at least as good everywhere and better somewhere; equal
    points do not beat each other.
    """
    count = len(scores_NM)
    keep = np.ones(count, dtype=bool)
    for i in range(count):
        if keep[i]:
            beaten = (scores_NM <= scores_NM[i]).all(1) & (scores_NM < scores_NM[i]).any(1)
            keep &= ~beaten
    return keep


def parse_goal(text: str) -> tuple[str, str]:
    """Read ``metric:max`` or ``metric:min``; a bare metric is maximised.

    >>> parse_goal("latency_ms:min"), parse_goal("accuracy")
    (('latency_ms', 'min'), ('accuracy', 'max'))
    """
    metric, _, goal = text.partition(":")
    return metric, goal or "max"


def single(objectives: Sequence[Objective], algo: str) -> Objective:
    """Return the only objective.

    Raises:
        ValueError: there are several; they are never merged silently.
    """
    if len(objectives) != 1:
        names = ", ".join(objective.metric for objective in objectives) or "none"
        raise ValueError(f"{algo} optimises exactly one objective, got {names}")
    return objectives[0]
