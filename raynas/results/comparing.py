"""What a run's best are compared in, and the score that they were searched by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.results.run_parts import RunParts
from raynas.results.solving import spanned
from raynas.results.verification import Comparison
from raynas.setup.bounds import space_within
from raynas.setup.resolve_task import with_task

if TYPE_CHECKING:
    import pandas as pd


def comparison_of(
    run: RunParts,
    best: pd.DataFrame,
    top: int,
    judged: pd.DataFrame,
    *,
    task: Any = None,
    loss: Any = None,
    metrics: Mapping[str, Any] | None = None,
) -> Comparison:
    """Return what a run is verified by.

    Args:
        run: that was searched.
        best: rows of its best trials.
        top: how many were asked for.
        judged: all of its trials.
        task: that compares; None takes the run's.
        loss: in place of the task's.
        metrics: besides the task's.

    Raises:
        TypeError, LookupError: the run's networks or data cannot be made here.
    """
    space, data = run.problem()
    if (task, loss, metrics) != (None, None, None):
        data = with_task(data, task or data.module.task, loss, metrics)
    space, sums = spanned(run, space_within(run.config, space, data, run.folder))
    return Comparison(
        path=run.folder.path,
        space=space,
        data=data,
        best=[Arch.from_json(text) for text in best["arch"]],
        top=top,
        seed=run.config.seed,
        cheap_scores=lambda archs: _cheap_scores(run, judged, archs),
        sums=sums,
    )


def _cheap_scores(
    run: RunParts, judged: pd.DataFrame, archs: Sequence[Arch]
) -> Mapping[str, float]:
    """Return the score that a search would go by, by architecture key."""
    if run.rebuilt.checkpoint is not None:
        rows = run.rebuilt.rescore(archs)
        metric, _ = run.rebuilt.data.task.objective
        return {a.key: row[f"valid_{metric}"] for a, row in zip(archs, rows, strict=True)}
    frame = judged.dropna(subset=["objective"])
    return dict(zip(frame["arch_key"], frame["objective"], strict=True))
