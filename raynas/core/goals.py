"""What a search is for: objectives, how several are merged if they are, and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from raynas.core.constraints import Constraint
from raynas.core.errors import nearest
from raynas.core.evaluator import Measurement, shown
from raynas.core.objectives import MissingObjective, Objective
from raynas.core.trial import Trial


@dataclass(frozen=True)
class Goals:
    """One or several objectives, and constraints.

    >>> goals = Goals((Objective("accuracy"), Objective("macs", "min")))
    >>> goals.scores({"accuracy": 0.9, "macs": 5e6})
    (0.9, -5000000.0)
    >>> goals.merged({"accuracy": 0.9, "macs": 5e6})
    0.9

    Attributes:
        objectives: at least one; the first stands in the ``objective`` column of the table.
        weights: of the metrics whose sum is maximised instead; empty merges nothing.
        constraints: bounds that a completed trial must keep, or it is infeasible.

    Raises:
        ValueError: no objective, or a weight of no objective, or one that contradicts its goal.
    """

    objectives: tuple[Objective, ...]
    weights: Mapping[str, float] | None = None
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("a search needs at least one objective")
        signs = {objective.metric: objective.sign for objective in self.objectives}
        for metric, weight in (self.weights or {}).items():
            if metric not in signs:
                raise ValueError(f"scalarize: {metric!r} is no objective; {nearest(metric, signs)}")
            if weight * signs[metric] <= 0:
                way = "above" if signs[metric] > 0 else "below"
                raise ValueError(
                    f"scalarize: the weight of {metric!r} must be {way} 0 for its goal, got "
                    f"{weight}"
                )
        if self.weights and (missing := signs.keys() - self.weights.keys()):
            raise ValueError(f"scalarize: no weight for the objective {min(missing)!r}")

    def scores(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return one number per objective, all to be maximised; merged, the one sum.

        Raises:
            MissingObjective: an objective or constrained metric is not there.
        """
        values = tuple(objective.score(metrics) for objective in self.objectives)
        return (self.merged(metrics),) if self.weights else values

    def merged(self, metrics: Mapping[str, float]) -> float:
        """Return the number that single-objective samplers maximise."""
        if not self.weights:
            return self.objectives[0].score(metrics)
        return sum(self.weights[one.metric] * metrics[one.metric] for one in self.objectives)

    def allow(self, metrics: Mapping[str, float]) -> bool:
        """Return whether all constraints hold.

        Raises:
            MissingObjective: a constrained metric is not there; the nearest that is is named.
        """
        for constraint in self.constraints:
            if constraint.metric not in metrics:
                hint = nearest(constraint.metric, metrics)
                raise MissingObjective(
                    f"the evaluator returns no metric {constraint.metric!r}, which is bounded; "
                    f"{hint}"
                )
        return all(constraint.holds(metrics) for constraint in self.constraints)

    def keep(self, metrics: Mapping[str, float]) -> bool:
        """Return whether all constraints are known to hold.

        A trial that was told before a metric was bounded may lack it: then nobody knows.
        """
        missing = any(constraint.metric not in metrics for constraint in self.constraints)
        return not missing and self.allow(metrics)

    def checked(self, measurement: Measurement) -> Measurement:
        """Return a measurement with an error if an objective or a bounded metric is no number.

        Whatever else is none fails nothing. One that was not returned at all is another matter:
        see ``scores`` and ``allow``.
        """
        if measurement.error is not None:
            return measurement
        bounded = [constraint.metric for constraint in self.constraints]
        for metric in [*(objective.metric for objective in self.objectives), *bounded]:
            if metric in measurement.text_metrics:
                text = shown(measurement.text_metrics[metric])
                why: str | None = f"metric {metric!r} must be a number, got {text}"
            else:
                why = measurement.unusable.get(metric)
            if why is not None:
                epochs = measurement.epochs  # the one that gave it does not count
                return replace(
                    measurement, error=f"ValueError: {why}", epochs=epochs and epochs - 1
                )
        return measurement

    def measured(self, trial: Trial) -> bool:
        """Return whether an evaluation gave all objectives."""
        return all(objective.metric in trial.metrics for objective in self.objectives)

    def judged(self, trial: Trial, *, allowed: bool, epochs: int) -> Trial:
        """Return a told trial as bounds and weights of now judge it; those of then may differ.

        Args:
            trial: one that was refused or failed stays as it is.
            allowed: whether it is known to keep the bounds of now.
            epochs: those of an evaluation that was not stopped early; others have no objective.
        """
        measured, broke = self.measured(trial), trial.status == "infeasible"
        if trial.status == "failed" or (broke and not measured):
            return trial
        if not allowed:
            return replace(trial, status="infeasible", objective=None, scores=())
        if broke:
            trial = replace(trial, status="completed")
        if not measured or not (trial.epochs == epochs if broke else trial.scored):
            return trial
        scores = self.scores(trial.metrics)
        return replace(trial, objective=self.merged(trial.metrics), scores=scores)

    @property
    def several(self) -> bool:
        """Whether a sampler sees more than one score."""
        return len(self.objectives) > 1 and not self.weights


def goals_of(
    objectives: Mapping[str, str],
    *,
    weights: Mapping[str, float] | None = None,
    constraints: Sequence[Constraint] = (),
) -> Goals:
    """Return the goals of plain mappings.

    Raises:
        ValueError: as ``Goals``, and for a goal other than "max" and "min".
    """
    listed = tuple(Objective(metric, goal) for metric, goal in objectives.items())  # type: ignore[arg-type]
    return Goals(listed, dict(weights) if weights else None, tuple(constraints))


def all_judged(
    trials: Sequence[Trial], known: Sequence[Mapping[str, float]], goals: Goals
) -> list[Trial]:
    """Return the told trials of a run as its goals of now judge them (see ``Goals.judged``).

    Args:
        trials: all of them: the most epochs that one was trained for tells which were stopped.
        known: what bounds are checked on, by trial: its metrics, and perhaps more.
        goals: of now.
    """
    whole: dict[str, int] = {}
    for trial in trials:
        whole[trial.evaluator] = max(trial.epochs, whole.get(trial.evaluator, 0))
    return [
        goals.judged(trial, allowed=goals.keep(row), epochs=whole[trial.evaluator])
        for trial, row in zip(trials, known, strict=True)
    ]
