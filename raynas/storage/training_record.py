"""What a training leaves in a folder, written by the process that trains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raynas.storage.run_folder import Folder
from raynas.storage.tables import HistoryStore

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
        self._folder = Folder(f"{out}/{folder}")

    def checkpoint(self, written: Path, epoch: int) -> None:
        """Keep a checkpoint, and remove those of ours before it."""
        name = f"checkpoint_{epoch:06d}"
        self._folder.put(written, name, last=self._last)
        for other in self._folder.names():
            if other != name and _OWN.fullmatch(other):
                self._folder.remove(other)

    def row(self, row: dict[str, Any]) -> None:
        """Append an epoch's row to the history."""
        self._history.append([{**self._columns, **row}])
