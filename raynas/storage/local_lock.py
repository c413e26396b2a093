"""The lock of a local folder: a file that its system unlocks when the process ends, however."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO

from raynas.core.errors import FolderInUse
from raynas.storage.lock_holder import Holder, in_use

LOCK = ".run.lock"
ASK_TELL = "ask and tell"  # holds it for one call only, which others wait for
WAIT_S, POLL_S = 10.0, 0.02


class LocalLock:
    """Holds a local folder, which is made, from the start on.

    The file says who does. One that a killed process has left behind is nobody's.

    Args:
        folder: to hold.
        what: this process does there.

    Raises:
        FolderInUse: another process holds it.
        OSError: it cannot be made, or written to.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self._name = str(folder / LOCK)
        until_s = time.monotonic() + WAIT_S
        while (file := self._tried(folder, what)) is None:
            holder = _holder(self._name)
            brief = holder is not None and holder.what == ASK_TELL
            if not brief or time.monotonic() >= until_s:
                raise FolderInUse(in_use(str(folder), holder))
            time.sleep(POLL_S)
        self._file = file

    def release(self) -> None:
        """Let others take it."""
        with contextlib.suppress(OSError):  # the folder was removed, or is read-only by now
            os.unlink(self._name)
        self._file.close()

    def forget(self) -> None:
        """Close what a fork has copied: the lock is the parent's, and ends with it."""
        with contextlib.suppress(OSError):
            os.close(self._file.fileno())

    def _tried(self, folder: Path, what: str) -> BinaryIO | None:
        """Return the file if its lock is ours now; None if somebody else has it."""
        while True:
            file = open_lock(folder, self._name)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    file.close()
                    return None
                return file  # a file system without locks
            if _is_at(file, self._name):
                break
            file.close()  # removed by the one who had it, when we had opened it already
        with contextlib.suppress(OSError):  # a full disk; the lock itself takes no room
            file.truncate(0)
            file.write(Holder.here(what).to_json().encode())
        return file


def open_lock(folder: Path, name: str) -> BinaryIO:
    """Return an open file of a folder, both of which are made.

    Args:
        folder: local.
        name: of the file, with its folder.

    Raises:
        OSError: the folder cannot be made, or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # unbuffered: nothing is left to be written when it is closed
        return open(name, "ab", buffering=0, opener=_through_no_link)
    except OSError as error:
        why = "it is a file" if folder.is_file() else error.strerror or str(error)
        raise OSError(f"the folder {folder} cannot be written to (out=): {why}") from error


def _through_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o666)


def _is_at(file: BinaryIO, name: str) -> bool:
    """Return whether an open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(name))
    except FileNotFoundError:
        return False


def _holder(name: str) -> Holder | None:
    """Return who says to have a lock; nobody if it is not said yet."""
    try:
        return Holder.read(Path(name).read_text())
    except (OSError, ValueError):
        return None
