"""The folder of a Ray that raynas starts, which Ray itself would leave for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._common.utils import get_default_system_temp_dir

from raynas.core.temporary import temporary_folder

SOCKET = "session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
LONGEST = 103  # bytes of a socket's path; 107 on Linux


@contextmanager
def own_session() -> Iterator[str | None]:
    """Give a folder for a Ray, and remove it at the end.

    Yields:
        The folder; None where its path is too long for sockets, which leaves Ray its own.
    """
    root = Path(get_default_system_temp_dir())
    root.mkdir(parents=True, exist_ok=True)
    with temporary_folder(root) as folder:
        yield str(folder) if len(os.fsencode(folder / SOCKET)) <= LONGEST else None
