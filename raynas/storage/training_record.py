"""What a supernet's training leaves in a run folder, written by the process that trains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from raynas.storage.run_folder import SUPERNET, Folder
from raynas.storage.tables import HistoryStore

_OWN = re.compile(r"checkpoint_\d{6}")  # Ray Train's names and its list of them are others


class TrainingRecord:
    """Appends rows to the history, and keeps the newest checkpoint.

    Args:
        out: run folder or URI.
        algo: name of the one-shot algorithm.
        last: file of a checkpoint that comes last, so that one without it is not whole.
    """

    def __init__(self, out: str, algo: str, *, last: str) -> None:
        self._history, self._algo, self._last = HistoryStore(out), algo, last
        self._folder = Folder(f"{out}/{SUPERNET}")

    def checkpoint(self, written: Path, epoch: int) -> None:
        """Keep a checkpoint, and remove those of ours before it."""
        name = f"checkpoint_{epoch:06d}"
        self._folder.put(written, name, last=self._last)
        for other in self._folder.names():
            if other != name and _OWN.fullmatch(other):
                self._folder.remove(other)

    def row(self, row: dict[str, Any]) -> None:
        """Append an epoch's row to the history."""
        self._history.append([{"algo": self._algo, **row}])
