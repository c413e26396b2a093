"""What is searched for: metrics to be maximised or minimised."""

from __future__ import annotations

from collections.abc import Mapping
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


def hypervolume(scores_NM: NDArray[np.float64], reference_M: NDArray[np.float64]) -> float:
    """Return the volume that N points dominate above a reference, exact for any number M of scores.

    All scores are to be maximised; points that are not above the reference everywhere add nothing.
    Source: While, Bradstreet and Barone, 2012 (WFG): the sum of what each point adds to those
    behind it.

    >>> hypervolume(np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([0.0, 0.0]))
    4.0
    """
    edges_NM = np.asarray(scores_NM, dtype=np.float64) - np.asarray(reference_M, dtype=np.float64)
    edges_NM = np.unique(edges_NM[(edges_NM > 0).all(1)], axis=0)  # sorted, without copies
    return _volume(edges_NM[pareto_mask(edges_NM)])


def _volume(front_NM: NDArray[np.float64]) -> float:
    """Return the volume of boxes from the origin, none within another, by rising first edge."""
    if len(front_NM) <= 1:
        return float(front_NM.prod(1).sum())
    if front_NM.shape[1] == 2:  # as the first edge rises, the second falls: a staircase
        widths = np.diff(front_NM[:, 0], prepend=0.0)
        return float(widths @ front_NM[:, 1])
    total = 0.0
    for i, box in enumerate(front_NM):
        shared = np.unique(np.minimum(front_NM[i + 1 :], box), axis=0)
        total += float(box.prod()) - _volume(shared[pareto_mask(shared)])
    return total


def knee_point(scores_NM: NDArray[np.float64]) -> int:
    """Return which of N points is the knee of their front, all M scores to be maximised.

    The knee bulges furthest from the plane through the ends of the front (Das, 1999), each score
    taken as its share of the front's range; of several, the first.

    >>> knee_point(np.array([[0.0, 10.0], [0.8, 9.0], [1.0, 0.0]]))
    1

    Raises:
        ValueError: there is no point.
    """
    if not len(scores_NM):
        raise ValueError("the knee of a front needs at least one point, got none")
    at = np.flatnonzero(pareto_mask(scores_NM))
    front = scores_NM[at]
    low, high = front.min(0), front.max(0)
    shares = (front - low) / np.where(high > low, high - low, 1.0)
    return int(at[shares.sum(1).argmax()])


def parse_goal(text: str) -> tuple[str, str]:
    """Read ``metric:max`` or ``metric:min``; a bare metric is maximised.

    >>> parse_goal("val/lat-ms:min"), parse_goal("accuracy")
    (('val/lat-ms', 'min'), ('accuracy', 'max'))
    """
    metric, _, goal = text.rpartition(":") if ":" in text else (text, "", "")
    return metric, goal or "max"
