"""What the evaluations at the end of a search add to its table, and what they say of its score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from raynas.core.config import SearchConfig
from raynas.core.constraints import as_constraints
from raynas.core.finalists import FinalScore
from raynas.core.goals import Goals, goals_of
from raynas.core.trial import Trial
from raynas.results.analysis import Interval, kendall
from raynas.setup.final_stage import (
    failed_finals,
    final_weights,
    finalists_left,
    read_final_scores,
)
from raynas.setup.final_weights import FinalWeights

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3  # architectures that a correlation is told of


def finals_of(path: str, config: SearchConfig) -> dict[str, FinalScore]:
    """Return the final scores of a run by architecture key; none where it asked for none.

    Args:
        path: of the run's folder.
        config: of its last start.
    """
    if config.final is None:
        return {}
    return read_final_scores(path, config.final, _goals(config), config.seed)


def final_weights_of(path: str, config: SearchConfig) -> FinalWeights | None:
    """Return what the end of a run has trained; None where it has none.

    Args:
        path: of the run's folder.
        config: of its last start.
    """
    if config.final is None:
        return None
    return final_weights(path, config.final, _goals(config), config.seed)


def awaits_end(path: str, config: SearchConfig, trials: Iterable[Trial]) -> bool:
    """Return whether a run has still to evaluate some of its best again, or to try them again.

    Args:
        path: of the run's folder.
        config: of its last start.
        trials: of it, as its bounds and weights of now judge them.
    """
    if config.final is None:
        return False
    return finalists_left(trials, path, config.final, _goals(config), config.seed)


def _goals(config: SearchConfig) -> Goals:
    constraints = as_constraints(config.constraints)
    return goals_of(config.objectives, weights=config.scalarize, constraints=constraints)


def with_finals(frame: pd.DataFrame, finals: Mapping[str, FinalScore]) -> pd.DataFrame:
    """Return trials with columns of the final scores, which are empty where there are none.

    They are ``final_objective``, ``final_seeds``, and of each objective's metric ``final_<metric>``
    and, of several seeds, ``final_<metric>_std``.

    Args:
        frame: rows of the trial table.
        finals: by architecture key.
    """
    if not finals:
        return frame
    last = [finals.get(key) for key in frame["arch_key"]]
    metrics = next(iter(finals.values())).means
    columns: dict[str, list[float]] = {
        "final_objective": [np.nan if f is None else f.objective for f in last],
        "final_seeds": [0 if f is None else f.seeds for f in last],
    }
    for name in metrics:
        columns[f"final_{name}"] = [np.nan if f is None else f.means[name] for f in last]
        if any(f.deviations for f in finals.values()):
            deviations = [np.nan if f is None else f.deviations[name] for f in last]
            columns[f"final_{name}_std"] = deviations
    return frame.assign(**columns)


def final_correlation(frame: pd.DataFrame) -> Interval | None:
    """Return Kendall's tau of the search's score and the final one; None of fewer than three.

    They are the best by the search's score, which are harder to tell apart than any others.

    Args:
        frame: rows of the trial table with final scores, as the run judges them now.
    """
    if "final_objective" not in frame:
        return None
    both = frame.dropna(subset=["objective", "final_objective"]).drop_duplicates("arch_key")
    if len(both) < FEWEST:
        return None
    return kendall(
        both["objective"].to_numpy(np.float64), both["final_objective"].to_numpy(np.float64)
    )


def final_said(frame: pd.DataFrame, path: str, config: SearchConfig) -> str:
    """Return in words how well the search's score orders its best, and what failed at the end.

    Args:
        frame: rows of the trial table with final scores, as the run judges them now.
        path: of the run's folder.
        config: of its last start.

    Returns:
        Sentences; empty if nothing is known.
    """
    return "\n".join(filter(None, (_correlation_said(frame), _failures_said(path, config))))


def _correlation_said(frame: pd.DataFrame) -> str:
    tau = final_correlation(frame)
    if tau is None:
        return ""
    return f"Kendall's tau of the search's score and the final one, over its best: {tau}"


def _failures_said(path: str, config: SearchConfig) -> str:
    failed = [] if config.final is None else failed_finals(path, config.final, config.seed)
    if not failed:
        return ""
    return (
        f"At the end {len(failed)} of the best failed and cannot be the best, the first "
        f"({failed[0].arch.key}) with {failed[0].error}; a run that goes on tries again"
    )
