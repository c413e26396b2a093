"""What a training leaves in a folder, written by the process that trains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raynas.core.locations import under
from raynas.storage.run_folder import Folder
from raynas.storage.table_writers import HistoryStore

_OWN = re.compile(r"checkpoint_\d{6}")  # Ray Train's names and its list of them are others


class TrainingRecord:
    """Appends rows to the history, and keeps the newest checkpoint.

    Args:
        out: folder or URI.
        folder: of the checkpoints in it.
        columns: of the history, that are the same in each of its rows.
        last: file of a checkpoint that comes last, so that one without it is not whole.
    """

    def __init__(self, out: str, folder: str, columns: Mapping[str, str], *, last: str) -> None:
        self._history, self._columns, self._last = HistoryStore(out), dict(columns), last
        self._folder = Folder(under(out, folder))
        self._folder.sweep()
        self._keep_newest()
        self._epoch = -1.0  # of the last row

    def add(self, row: dict[str, Any], checkpoint: Path | None) -> None:
        """Append an epoch's row to the history, and keep its checkpoint if there is one.

        The row comes first: of an epoch that a checkpoint has, the row is there. Rows after the
        checkpoint that a training went on from are those of epochs that come again.
        """
        if row["epoch"] <= self._epoch or self._epoch < 0:
            self._history.forget_from(row["epoch"])
        self._epoch = row["epoch"]
        self._history.append([{**self._columns, **row}])
        if checkpoint is not None:
            self._folder.put(checkpoint, f"checkpoint_{int(row['epoch']):06d}", last=self._last)
            self._keep_newest()

    def _keep_newest(self) -> None:
        """Remove all checkpoints of ours but the newest."""
        for name in sorted(filter(_OWN.fullmatch, self._folder.names()))[:-1]:
            self._folder.remove(name)
