"""What of a trial a library of blocks goes by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from raynas.core.errors import nearest
from raynas.core.goals import Goals
from raynas.core.metrics import DIVERGENCE
from raynas.core.objectives import Objective, parse_goal
from raynas.core.sampler import SearchFacts
from raynas.core.trial import Trial

LOSS, OBJECTIVE = "loss", "objective"
FALLING = (LOSS, DIVERGENCE)  # metrics that are minimised where nobody says a goal


@dataclass(frozen=True)
class Reading:
    """Reads scores, all to be maximised, from the metrics of a trial.

    Attributes:
        wanted: the metric and its goal; None takes the loss where there is one, else the objective.
        goals: of the search; None where trials say their objective themselves.
    """

    wanted: str | None = None
    goals: Goals | None = None

    def measured(self, trial: Trial) -> Mapping[str, float] | None:
        """Return the metrics of a trial with its objective among them; None if it failed."""
        objective = trial.objective
        if objective is None and self.goals is not None and trial.status == "infeasible":
            objective = self.goals.merged(trial.metrics) if self.goals.measured(trial) else None
        if objective is None or not math.isfinite(objective):
            return None
        return {**trial.metrics, OBJECTIVE: objective}

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Return what is added up over blocks."""
        if self.wanted is None:
            return -metrics[LOSS] if LOSS in metrics else metrics.get(OBJECTIVE)
        if self.wanted == OBJECTIVE:
            return metrics.get(OBJECTIVE)
        wanted = objective_named(self.wanted)
        return wanted.score(metrics) if wanted.metric in metrics else None

    def objective(self, metrics: Mapping[str, float]) -> float | None:
        """Return the search's own objective."""
        return metrics.get(OBJECTIVE)


def objective_named(text: str) -> Objective:
    """Read ``metric``, ``metric:max`` or ``metric:min``; a loss or a divergence is minimised.

    >>> objective_named("loss"), objective_named("accuracy")
    (Objective(metric='loss', goal='min'), Objective(metric='accuracy', goal='max'))
    """
    metric, goal = parse_goal(text)
    return Objective(metric, "min" if ":" not in text and metric in FALLING else goal)  # type: ignore[arg-type]


def reading_of(score: str | None, facts: SearchFacts) -> Reading:
    """Return how a search's trials are read.

    Args:
        score: as asked for; None takes the loss if it is measured, but the objective where that is
            the divergence from the whole.
        facts: of the search.

    Raises:
        ValueError: the evaluator does not give the metric.
    """
    if score is None:
        goals = facts.goals
        own = goals.objectives[0].metric == DIVERGENCE or LOSS not in facts.metrics
        return Reading(OBJECTIVE if own else LOSS, goals)
    metric = objective_named(score).metric
    if metric not in facts.metrics:
        raise ValueError(
            f"score: the evaluator gives no metric {metric!r}; {nearest(metric, facts.metrics)}"
        )
    return Reading(score, facts.goals)
