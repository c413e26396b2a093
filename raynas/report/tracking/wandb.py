"""Weights & Biases, by its own client."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from raynas.core.locations import is_uri, last_name
from raynas.core.progress import RunInfo, RunSummary
from raynas.report.tracking.base import TRACKERS, Point, Status, Tracker, client


@TRACKERS.register("wandb", aliases=("Weights & Biases",))
class WandB(Tracker):
    """Logs to Weights & Biases, or with ``mode="offline"`` to files that ``wandb sync`` uploads.

    The client's own variables, such as ``WANDB_MODE``, ``WANDB_PROJECT`` and ``WANDB_API_KEY``,
    hold where nothing else is said. Its files lie in ``wandb/`` of the run's folder.

    Args:
        project: that the run belongs to; None takes ``WANDB_PROJECT``, else ``raynas``.
        entity: user or team; None takes the client's default.
        name: of the run; None takes the name of its folder.
        group: of runs.
        tags: of the run.
        mode: ``online``, ``offline`` or ``disabled``; None takes ``WANDB_MODE``, else ``online``.
    """

    takes_files = True

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        self._client = client("wandb", "wandb")
        self._name = name
        self._given = {
            "project": project or os.environ.get("WANDB_PROJECT") or "raynas",
            "entity": entity,
            "group": group,
            "tags": None if tags is None else list(tags),
            "mode": mode,
        }
        self._run: Any = None
        self._axes: set[str] = set()

    def begin(self, run: RunInfo, before: str | None) -> str:
        """Begin a run, or go on with the one of an earlier start; return its id."""
        self._run = self._client.init(
            **self._given,
            name=self._name or last_name(run.out),
            id=before,
            resume=None if before is None else "allow",
            reinit="create_new",  # one that the user has open stays as it is
            dir=None if is_uri(run.out) else run.out,
            config=dict(run.config),
            settings=self._client.Settings(console="off"),  # what is redrawn is no log
        )
        return str(self._run.id)

    def log(self, points: Sequence[Point]) -> None:
        """Log numbers over epochs and over trials: each has an axis of its own."""
        for point in points:
            step = "epoch" if point.axis == "epoch" else "trial/number"
            for name in point.values.keys() - self._axes:
                self._run.define_metric(name, step_metric=step)
            self._axes |= point.values.keys()
            self._run.log({step: point.step, **point.values})

    def finish(self, summary: RunSummary) -> None:
        """Put the best architecture and its numbers into the summary, and save the files."""
        for name, value in summary.metrics.items():
            self._run.summary[f"final/{name}"] = value
        if summary.arch is not None:
            self._run.summary["arch"] = summary.arch
        for file in summary.files:
            self._run.save(file, base_path=os.path.dirname(file), policy="now")

    def end(self, status: Status) -> None:
        """Finish the run."""
        self._run.finish(exit_code=0 if status == "finished" else 1)
