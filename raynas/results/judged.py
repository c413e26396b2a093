"""A run's trials as its bounds and weights of now judge them.

Bounds, and weights of several objectives, are those of the last start; an earlier one's may have
been others, and the rows on disk say what was told then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from raynas.core.config import SearchConfig
from raynas.core.constraints import as_constraints
from raynas.core.feasible import Violation
from raynas.core.finalists import FinalScore, best_trial
from raynas.core.goals import all_judged, goals_of
from raynas.core.trial import Trial

if TYPE_CHECKING:
    import pandas as pd


class JudgedTrials:
    """Status and objective of told trials under a configuration.

    Args:
        recorded: the trials as they were told.
        config: of the run's last start.
        bounds: gives what can be known of an architecture without evaluating it, for trials that
            lack a bounded metric; None where that is not at hand.
    """

    def __init__(
        self,
        recorded: Sequence[Trial],
        config: SearchConfig,
        bounds: Callable[[], Violation | None],
    ) -> None:
        self._recorded, self._config, self._bounds = recorded, config, bounds

    @cached_property
    def trials(self) -> list[Trial]:
        """The trials with their status and objective of now."""
        config = self._config
        constraints = as_constraints(config.constraints)
        goals = goals_of(config.objectives, weights=config.scalarize, constraints=constraints)
        return all_judged(self._recorded, self._metrics, goals)

    @cached_property
    def _metrics(self) -> list[Mapping[str, float]]:
        """The metrics of each trial, and what can be known without it where it lacks a bounded one.

        Functions return what they like, and a cost may not have been bounded when they were called.
        """
        bounded, recorded = self._config.constraints.keys(), [t.metrics for t in self._recorded]
        if not any(bounded - metrics.keys() for metrics in recorded if metrics):
            return recorded
        violation = self._bounds()
        if violation is None:
            return recorded
        return [{**violation.costs(trial.arch), **trial.metrics} for trial in self._recorded]

    def best(self, finals: Mapping[str, FinalScore] | None = None) -> Trial | None:
        """Return the best; None if no trial has a finite objective.

        Args:
            finals: scores of the end of the search, by architecture key.
        """
        return best_trial(self.trials, finals or {})

    def why_none(self) -> str:
        """Return why no trial is best."""
        trials, bounded = self.trials, self._config.constraints
        unknown = [name for name in bounded if all(name not in row for row in self._metrics)]
        if any(trial.status == "infeasible" for trial in trials):
            return (
                f"none is known to keep the bounds, for none has {' or '.join(unknown)}; costs are "
                "counted where the run's space is at hand (raynas.load(path, space=...))"
                if unknown
                else "none keeps the bounds"
            )
        errors = [trial.error for trial in trials if trial.error]
        return f"all {len(trials)} failed, the first with {errors[0]}" if errors else "none ran"

    def table(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the trials' rows with ``status`` and ``objective`` of now.

        Args:
            rows: of the trial table, in the order of the trials.
        """
        objective = [np.nan if t.objective is None else t.objective for t in self.trials]
        frame = rows.assign(status=[t.status for t in self.trials], objective=objective)
        again = (frame["status"] == "completed") & (rows["status"] == "infeasible")
        done = frame["arch_key"].where(frame["status"] == "completed")
        frame.loc[again & done.duplicated(), "status"] = "duplicate"
        return frame
