"""The trials of a run, and what they answer without another evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from raynas.core.config import SearchConfig
from raynas.core.constraints import Constraints, as_constraints
from raynas.core.errors import Unfinished
from raynas.core.finalists import FinalScore
from raynas.core.objectives import Objective, parse_goal
from raynas.core.trial import Trial
from raynas.report.order import best_first
from raynas.results import analysis
from raynas.results.final_columns import awaits_end, finals_of, with_finals
from raynas.results.judged import JudgedTrials
from raynas.results.run_parts import RunParts
from raynas.storage.run_folder import Folder
from raynas.storage.tables import load_trials, read_history, read_trials

if TYPE_CHECKING:
    import pandas as pd

    from raynas.results.analysis import Interval


class RunTrials:
    """The trials of a finished or stopped run.

    Args:
        path: its folder.
        space: the user's own space, where the run's cannot be imported.
        data: the user's own data, likewise.
        task: the user's own task, likewise.
    """

    def __init__(self, path: str, *, space: Any = None, data: Any = None, task: Any = None) -> None:
        self.folder = Folder(path)
        self.path = self.folder.path
        self.config: SearchConfig = self.folder.read_config()
        self._parts = RunParts(self.folder, self.config, space, data, task)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {len(self.trials)} trials)"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, in the order of tells; columns as in docs/trials.md.

        Added is ``duplicates``: how often the row's architecture was asked again; and of a search
        that ended with evaluating its best again, what that gave: ``final_objective`` and others.
        """
        frame: pd.DataFrame = read_trials(self.path).to_pandas()
        asked = frame.groupby("arch_key", sort=False)["arch_key"].transform("size")
        return with_finals(frame.assign(duplicates=asked.astype("int64") - 1), self._finals)

    @cached_property
    def _finals(self) -> dict[str, FinalScore]:
        return finals_of(self.path, self.config)

    @property
    def all_told(self) -> bool:
        """Whether all trials are told, and its best evaluated again where it ends with that."""
        if len(self.trials) < self.config.trials:
            return False
        return not awaits_end(self.path, self.config, self._judgement.trials)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per training epoch of the supernet, the last where one ran twice."""
        frame: pd.DataFrame = read_history(self.path).to_pandas()
        twice = ["algo", "epoch"]  # a job that was killed goes on from its last checkpoint
        return frame.drop_duplicates(twice, keep="last") if len(frame) else frame

    @cached_property
    def best(self) -> Trial:
        """The trial of the best objective; ties go to the lower loss, then to the earlier.

        Of a search with ``final``, it is the best of those that were evaluated again at its end.

        Counted are, as in all answers, trials that are known to keep the run's own bounds, those of
        its last resumption (see ``judged``): not one that was told before a metric was bounded,
        and without it.

        Raises:
            Unfinished: no trial was completed; the message quotes the first error.
        """
        best = self._judgement.best(self._finals)
        if best is None:
            why = self._judgement.why_none()
            raise Unfinished(f"{self.path} has no completed trial: {why}")
        return best

    @property
    def best_final(self) -> FinalScore | None:
        """What the end of the search gave of the best; None where it was not evaluated again."""
        if self.config.final is None:  # the trials need not be read for that
            return None
        return self._finals.get(self.best.arch.key)

    def top(self, count: int = 10) -> pd.DataFrame:
        """Return the best trials, best first, by the order of ``best``."""
        frame = self.judged[self.judged["objective"].notna()]
        frame = frame[frame["status"] != "duplicate"]
        return best_first(frame).head(count)

    def pareto(self, objectives: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the trials that no other trial beats.

        Args:
            objectives: metric to "max" or "min"; None takes the run's own.

        Raises:
            KeyError: a metric that no trial has.
        """
        return analysis.front(self.judged, self._goals(objectives))

    def hypervolume(
        self,
        reference: Mapping[str, float] | None = None,
        objectives: Mapping[str, str] | None = None,
    ) -> float:
        """Return the volume of objectives that the completed trials dominate.

        Args:
            reference: the worst value of every objective that counts; None takes the worst
                measured, which makes volumes of different runs incomparable.
            objectives: metric to "max" or "min"; None takes the run's own.
        """
        return analysis.volume(self.judged, self._goals(objectives), reference)

    def knee(self, objectives: Mapping[str, str] | None = None) -> pd.Series:
        """Return the trial where the Pareto front bends most (Das, 1999).

        Args:
            objectives: metric to "max" or "min"; None takes the run's own.
        """
        return analysis.knee(self.judged, self._goals(objectives))

    def query(
        self,
        constraints: Constraints | None = None,
        objectives: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Answer another question from the trials that are there, without evaluating any.

        Args:
            constraints: bounds in place of the run's own, as for ``raynas.search``; None takes the
                run's own, an empty list none.
            objectives: metric to "max" or "min"; None takes the run's own.

        Returns:
            The trials that keep the bounds: best first, or the front of several objectives.
        """
        goals = self._goals(objectives)
        if constraints is None:
            return analysis.query(self.judged[self.judged["status"] == "completed"], (), goals)
        return analysis.query(self.trials, as_constraints(constraints), goals)

    def importance(self, objective: str | None = None) -> pd.DataFrame:
        """Return how much each choice matters (see ``raynas.results.analysis.importance``).

        Args:
            objective: a metric, such as ``accuracy`` or ``macs:min``; None takes the run's first.
        """
        wanted = self.config.objectives if objective is None else dict([parse_goal(objective)])
        return analysis.importance(self.judged, self._goals(wanted)[0])

    def solve(self, constraints: Constraints | None = None, top: int = 10) -> pd.DataFrame:
        """Return what sums over blocks say is best under other bounds, without any evaluation.

        Of a run by ``block_library``, exactly, by integer programming. Columns: ``gain``, the sum
        of the differences to the parent by what the run went by, ``predicted``, the objective that
        this promises, ``objective`` where the run has measured it, costs, ``arch``, ``arch_key``.

        Args:
            constraints: bounds on costs in place of the run's own, as for ``raynas.search``; None
                takes the run's own, an empty list none.
            top: how many.

        Raises:
            ValueError: the run is of another algorithm, or a bound cannot be kept, or is on what
                only an evaluation tells.
            Unfinished: not all variants were scored.
        """
        from raynas.results.solving import solved

        return solved(self._parts, constraints, top)

    def rank_correlation(self, first: str = "shared", other: str = "standalone") -> Interval:
        """Return Kendall's tau between two evaluators' objectives of the same architectures.

        Counted are this run's trials, what its end evaluated again by an evaluator of another name,
        and what ``verify`` trained.

        Args:
            first: name of an evaluator.
            other: name of another.

        Raises:
            LookupError: fewer than three architectures have both scores.
            UnknownName: no row is of an evaluator of this name.
        """
        from raynas.results.verification import scores_by

        return scores_by(self.path, self.judged, first, other)

    @cached_property
    def judged(self) -> pd.DataFrame:
        """``trials``, with ``status`` and ``objective`` as the run judges them now.

        Bounds, and weights of several objectives, are those of its last start; an earlier one's may
        have been others, and the rows on disk say what was told then. All that a result answers,
        its report included, goes by this table.
        """
        return self._judgement.table(self.trials)

    @cached_property
    def _judgement(self) -> JudgedTrials:
        return JudgedTrials(load_trials(self.path), self.config, self._parts.bounds)

    def _goals(self, objectives: Mapping[str, str] | None) -> list[Objective]:
        return analysis.objectives_of(self.trials, objectives or self.config.objectives)
