"""How much each choice matters: the share of the objective's variance that its options explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raynas.core.objectives import Objective

if TYPE_CHECKING:
    import pandas as pd

CHOICE = "choice."


def fully_trained(frame: pd.DataFrame, goals: Sequence[Objective]) -> pd.DataFrame:
    """Return the completed trials that have all objectives and spent the whole budget."""
    frame = frame[frame["status"] == "completed"]
    if "epochs" in frame:  # scores of trials that were stopped early are another measure
        frame = frame[frame["epochs"] == frame.groupby("evaluator")["epochs"].transform("max")]
    return frame.dropna(subset=[goal.metric for goal in goals])


def importance_table(frame: pd.DataFrame, goal: Objective) -> pd.DataFrame:
    """Return, by choice, which share of the objective's variance its options explain.

    The share is that of a one-way analysis of variance over the trials that reached the choice
    (eta squared, corrected for the number of options: epsilon squared, not below 0); ``effect`` is
    the difference between the means of the best and the worst option. Trials are those that the
    search happened to make, so that options which went together share their effect.

    Returns:
        Columns ``choice``, ``importance``, ``effect``, ``best``, ``trials``, largest first.
    """
    import pandas as pd

    trials = fully_trained(frame, [goal])
    score = goal.sign * trials[goal.metric].astype(float)
    rows = []
    for column in (name for name in trials if str(name).startswith(CHOICE)):
        reached = trials[column].dropna().map(str)
        groups = score[reached.index].groupby(reached)
        rows.append(
            {
                "choice": str(column).removeprefix(CHOICE),
                "importance": _explained([np.asarray(group, np.float64) for _, group in groups]),
                "effect": float(groups.mean().max() - groups.mean().min()) if len(groups) else 0.0,
                "best": groups.mean().idxmax() if len(groups) else None,
                "trials": len(reached),
            }
        )
    table = pd.DataFrame(rows, columns=["choice", "importance", "effect", "best", "trials"])
    return table.sort_values(["importance", "effect"], ascending=False, ignore_index=True)


def _explained(groups: Sequence[NDArray[np.float64]]) -> float:
    """Return the share of the variance that lies between groups, corrected for their number."""
    values = np.concatenate(groups) if groups else np.zeros(0)
    count, total = len(values), float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    if count <= len(groups) or total == 0.0:
        return 0.0
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    noise = within / (count - len(groups))
    return max(0.0, (total - within - (len(groups) - 1) * noise) / total)
