"""What another run has scored already."""

from __future__ import annotations

from dataclasses import replace

from raynas.core.archspace import ArchSpace
from raynas.core.goals import Goals, goals_of
from raynas.core.trial import Trial
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.tables import load_trials


def scored_trials(path: str, space: ArchSpace) -> list[Trial]:
    """Return the trials of a run that have a score, in the order in which they were told.

    Args:
        path: of the run, a folder or URI.
        space: that it has to be of.

    Raises:
        ValueError: there is no run, it holds no score, or an architecture of another space (a
            ``StoreMismatch`` that says which decision differs).
    """
    folder = Folder(path)
    if not folder.has(CONFIG):
        raise ValueError(f"{folder.path} holds no run: it has no {CONFIG}")
    config = folder.read_config()
    goals = goals_of(config.objectives, weights=config.scalarize)
    scored = [trial for trial in load_trials(folder.path, space) if trial.scored]
    if not scored:
        raise ValueError(f"the run in {folder.path} has scored no architecture")
    return [replace(trial, scores=_scores(trial, goals)) for trial in scored]


def _scores(trial: Trial, goals: Goals) -> tuple[float, ...]:
    """Return one score per objective, which a table holds as metrics."""
    return goals.scores(trial.metrics) if goals.several else ()
