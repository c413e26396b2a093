"""Questions to a table of trials: fronts, queries under other bounds, the effect of each choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raynas.core.constraints import Constraint
from raynas.core.errors import nearest
from raynas.core.evaluator import RESERVED
from raynas.core.objectives import Objective, hypervolume, knee_point, pareto_mask
from raynas.report.importance import fully_trained, importance_table
from raynas.report.order import best_first

if TYPE_CHECKING:
    import pandas as pd

CHOICE = "choice."
RESAMPLES = 1000


def objectives_of(frame: pd.DataFrame, wanted: Mapping[str, str]) -> list[Objective]:
    """Return the objectives.

    Raises:
        KeyError: a metric that no trial has.
    """
    goals = [Objective(metric, goal) for metric, goal in wanted.items()]  # type: ignore[arg-type]
    for goal in goals:
        _column(frame, goal.metric)
    return goals


def scores(frame: pd.DataFrame, goals: Sequence[Objective]) -> NDArray[np.float64]:
    """Return the objectives, all to be maximised, shape (trials, objectives)."""
    columns = [goal.sign * frame[goal.metric].to_numpy(np.float64) for goal in goals]
    return np.column_stack(columns) if columns else np.zeros((len(frame), 0))


def front(frame: pd.DataFrame, goals: Sequence[Objective]) -> pd.DataFrame:
    """Return the trials that no other beats, by the first objective, best first."""
    frame = fully_trained(frame, goals)
    kept = frame[pareto_mask(scores(frame, goals))]
    return best_first(kept, goals[0].metric, ascending=goals[0].goal == "min")


def volume(
    frame: pd.DataFrame, goals: Sequence[Objective], reference: Mapping[str, float] | None
) -> float:
    """Return the hypervolume that the trials dominate.

    Args:
        frame: the trials.
        goals: the objectives.
        reference: the worst value of every objective that counts; None takes the worst measured.

    Raises:
        KeyError: the reference lacks an objective, or names what no trial has.
    """
    points = scores(fully_trained(frame, goals), goals)
    if not len(points):
        return 0.0
    if reference is None:
        return hypervolume(points, points.min(0))
    known = _metrics(frame)
    for name in reference:
        if name not in known:
            raise KeyError(
                f"the reference names {name!r}, which no trial has; {nearest(name, known)}"
            )
    for goal in goals:
        if goal.metric not in reference:
            raise KeyError(f"the reference has no value for {goal.metric!r}")
    return hypervolume(points, np.array([goal.sign * reference[goal.metric] for goal in goals]))


def knee(frame: pd.DataFrame, goals: Sequence[Objective]) -> pd.Series:
    """Return the trial where the front bends most.

    Raises:
        LookupError: no trial has all objectives.
    """
    frame = fully_trained(frame, goals)
    if frame.empty:
        raise LookupError("no completed trial has all objectives")
    return frame.iloc[knee_point(scores(frame, goals))]


def query(
    frame: pd.DataFrame, constraints: Sequence[Constraint], goals: Sequence[Objective]
) -> pd.DataFrame:
    """Return the trials that keep the constraints: the best first, or the front of several goals.

    Trials that were infeasible under the run's own constraints count again.

    Raises:
        KeyError: a metric that no trial has.
    """
    kept = frame[frame["status"].isin(["completed", "infeasible"])]
    for constraint in constraints:
        values = _column(kept, constraint.metric)
        kept = kept[[constraint.allows(float(v)) for v in values.astype(float)]]
    kept = kept.assign(status="completed")
    if len(goals) > 1:
        return front(kept, goals)
    (goal,) = goals
    return best_first(fully_trained(kept, goals), goal.metric, ascending=goal.goal == "min")


def importance(frame: pd.DataFrame, goal: Objective) -> pd.DataFrame:
    """Return, by choice, which share of the objective's variance its options explain.

    See ``raynas.report.importance``.
    """
    return importance_table(frame, goal)


def _metrics(frame: pd.DataFrame) -> list[str]:
    """Return the numbers that were measured, and their score, without a run's bookkeeping."""
    own = RESERVED - {"objective"}
    numeric = map(str, frame.select_dtypes("number"))
    return [name for name in numeric if name not in own and not name.startswith(CHOICE)]


def _column(frame: pd.DataFrame, metric: str) -> pd.Series:
    if metric not in frame:
        raise KeyError(f"no trial has a metric {metric!r}; {nearest(metric, _metrics(frame))}")
    return frame[metric]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, by the percentile bootstrap over architectures.

    Attributes:
        value: the estimate.
        low: end of the interval; None where a single architecture tells nothing of its kind.
        high: its other end, likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return self.text()

    def text(self, factor: float = 1.0, digits: int = 3, unit: str = "") -> str:
        """Return the estimate and, where there is one, its interval.

        >>> Interval(0.5, 0.25, 0.75).text(100, 1, "points"), Interval(0.5).text()
        ('50.0 points (95 %: 25.0 to 75.0)', '0.500')

        Args:
            factor: from the estimate to its unit.
            digits: behind the point.
            unit: a word behind the number.
        """
        said = f"{factor * self.value:.{digits}f} {unit}".rstrip()
        if self.low is None or self.high is None:
            return said
        return f"{said} (95 %: {factor * self.low:.{digits}f} to {factor * self.high:.{digits}f})"


def kendall(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """Return Kendall's tau-b of two scores of the same architectures.

    Args:
        first: shape (architectures,), at least two.
        second: likewise.
    """
    from scipy.stats import kendalltau

    def tau(at: NDArray[np.int64]) -> float:
        found = kendalltau(first[at], second[at]).statistic
        return 0.0 if np.isnan(found) else float(found)  # all tied: no order to agree on

    return _bootstrapped(tau, [len(first)])


def mean_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """Return the mean of some scores less that of others, groups resampled on their own.

    A group of one has no spread to resample: there is no interval then.
    """
    if min(len(first), len(second)) < 2:
        return Interval(float(first.mean() - second.mean()))
    whole = np.concatenate([first, second])

    def gap(at: NDArray[np.int64]) -> float:
        return float(whole[at[: len(first)]].mean() - whole[at[len(first) :]].mean())

    return _bootstrapped(gap, [len(first), len(second)])


def _bootstrapped(statistic: Callable[[NDArray[np.int64]], float], sizes: list[int]) -> Interval:
    rng, starts = np.random.default_rng(0), np.cumsum([0, *sizes[:-1]])
    draws = [
        statistic(
            np.concatenate(
                [s + rng.integers(n, size=n) for s, n in zip(starts, sizes, strict=True)]
            )
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(statistic(np.arange(sum(sizes))), float(low), float(high))
