"""The folder of a Ray that raynas starts, which Ray itself would leave for ever."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._common.utils import get_default_system_temp_dir

PREFIX, LOCK = "raynas-", ".ray.lock"
SOCKET = "session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
LONGEST = 103  # bytes of a socket's path; 107 on Linux


@contextmanager
def own_session() -> Iterator[str | None]:
    """Give a folder for a Ray, and remove it at the end.

    What a killed process has left is removed by the next one: nobody holds its lock any more.

    Yields:
        The folder; None where its path is too long for sockets, which leaves Ray its own.
    """
    root = Path(get_default_system_temp_dir())
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    try:
        with open(folder / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fits = len(os.fsencode(folder / SOCKET)) <= LONGEST
            yield str(folder) if fits else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove the folders of processes that were killed."""
    for file in root.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError), open(file) as lock:  # another user's, or gone by now
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(file.parent, ignore_errors=True)
