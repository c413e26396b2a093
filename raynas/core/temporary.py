"""Temporary folders that outlive no killed process for long: the next one removes them."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX, LOCK = "raynas-", ".lock"


@contextmanager
def temporary_folder(root: Path | None = None) -> Iterator[Path]:
    """Give an empty folder, and remove it at the end.

    What killed processes have left in ``root`` is removed first. Beside each folder lies a file
    that its process has locked, and a lock goes with its process, however that ends.

    Args:
        root: where it is made; None takes the system's place for temporary files.
    """
    root = Path(tempfile.gettempdir() if root is None else root)
    sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    mark = folder.with_name(folder.name + LOCK)
    try:
        with _locked(mark):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        mark.unlink(missing_ok=True)


@contextmanager
def _locked(mark: Path) -> Iterator[None]:
    """Lock a file, which has its name only then."""
    early = mark.with_name(mark.name + ".new")
    with open(early, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        early.rename(mark)
        yield


def sweep(root: Path) -> None:
    """Remove the folders of processes that were killed."""
    for mark in root.glob(f"{PREFIX}*{LOCK}"):
        with contextlib.suppress(OSError), open(mark) as file:  # another user's, or gone by now
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.with_name(mark.name.removesuffix(LOCK)), ignore_errors=True)
            mark.unlink()
