"""TensorBoard: event files, written by ``torch.utils.tensorboard``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from raynas.core.locations import is_uri
from raynas.core.progress import RunInfo, RunSummary
from raynas.report.tracking.base import TRACKERS, Point, Status, Tracker, client, flat


@TRACKERS.register("tensorboard", aliases=("tb",))
class TensorBoard(Tracker):
    """Writes event files, which ``tensorboard --logdir RUN`` shows.

    Numbers are scalars, the configuration stands under HPARAMS and TEXT.

    Args:
        folder: local one of the event files; None takes ``tensorboard/`` in the run's.
    """

    def __init__(self, *, folder: str | None = None) -> None:
        self._client = client("torch.utils.tensorboard", "tensorboard")
        self._folder = folder
        self._writer: Any = None

    def begin(self, run: RunInfo, before: str | None) -> None:
        """Begin an event file; those of earlier starts lie beside it."""
        if self._folder is None and is_uri(run.out):
            raise ValueError(
                f"track: tensorboard writes to a local folder, and the run's is {run.out}: name "
                'one, track=("tensorboard", {"folder": ...})'
            )
        self._writer = self._client.SummaryWriter(self._folder or f"{run.out}/tensorboard")
        summary = self._client.summary.hparams(flat(run.config), {})
        for part in summary:
            self._writer.file_writer.add_summary(part)
        text = json.dumps(run.config, indent=2, default=str)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))
        self._writer.flush()

    def log(self, points: Sequence[Point]) -> None:
        """Write scalars."""
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, walltime=point.time_s)
        self._writer.flush()

    def finish(self, summary: RunSummary) -> None:
        """Write the best architecture as a text."""
        if summary.arch is not None:
            self._writer.add_text("arch", f"    {summary.arch}")

    def end(self, status: Status) -> None:
        """Close the file."""
        self._writer.close()
