"""One run at a time writes to a folder: a lock that goes with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from raynas.core.errors import FolderInUse
from raynas.core.locations import is_uri
from raynas.storage.run_folder import absolute

LOCK = ".run.lock"
ASK_TELL = "ask and tell"  # holds it for one call only, which others wait for
WAIT_S, POLL_S = 10.0, 0.02


class RunLock:
    """Keeps other runs out of the folders that a run writes to, until it is closed.

    Local folders alone are locked: object stores have no locks, and there the names of parts,
    which no two runs may write, say that another one writes as well. Readers take no lock.

    The file holds who has the lock. It is removed at the end; one that a killed process has left
    behind is nobody's.

    Args:
        what: the run is, for those who find the folder locked.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> RunLock:
        _ALL.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._files:
            path, file = self._files.popitem()
            with contextlib.suppress(OSError):  # the folder was removed, or is read-only by now
                os.unlink(path)
            file.close()

    def take_if_there(self, path: str) -> None:
        """Take the lock of a folder that may be missing, as that of a run which has not begun."""
        local = _local(path)
        if local is not None and local.is_dir():
            self.take(path)

    def take(self, path: str) -> None:
        """Take the lock of a folder, which is made; one that is taken already stays so.

        Args:
            path: of the folder; of a URI, one of a local file system.

        Raises:
            FolderInUse: another run writes to it.
            OSError: it cannot be made, or written to.
        """
        local = _local(path)
        if local is None:
            return
        name = str(local / LOCK)
        if name in self._files:
            return
        until_s = time.monotonic() + WAIT_S
        while (file := self._tried(local, name)) is None:
            holder = _holder(name)
            if holder.get("what") != ASK_TELL or time.monotonic() >= until_s:
                raise FolderInUse(_sentence(str(local), holder))
            time.sleep(POLL_S)
        self._files[name] = file

    def _tried(self, folder: Path, name: str) -> BinaryIO | None:
        """Return the file if its lock is ours now; None if somebody else has it."""
        while True:
            file = open_lock(folder, name)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    file.close()
                    return None
                return file  # a file system without locks
            if _is_at(file, name):
                break
            file.close()  # removed by the one who had it, when we had opened it already
        said = {"what": self._what, "pid": os.getpid(), "host": platform.node()}
        with contextlib.suppress(OSError):  # a full disk; the lock itself takes no room
            file.truncate(0)
            file.write(json.dumps(said).encode())
        return file

    def forget(self) -> None:
        """Close what a fork has copied: the lock is the parent's, and ends with it."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                os.close(file.fileno())
        self._files = {}


_ALL: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    for lock in list(_ALL):
        lock.forget()


os.register_at_fork(after_in_child=_forget_in_child)


def _local(path: str) -> Path | None:
    """Return a local folder's path; None for an object store."""
    place = absolute(path)
    return None if is_uri(place) else Path(place)


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


def _holder(name: str) -> dict[str, object]:
    """Return who says to have a lock; nothing if it is not said yet."""
    try:
        said = json.loads(Path(name).read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _sentence(folder: str, holder: dict[str, object]) -> str:
    who = "another process"
    if holder:
        who += f" ({holder.get('what')}, pid {holder.get('pid')} on {holder.get('host')})"
    return (
        f"{folder} is being written to by {who}: wait for its end, stop it, or choose another "
        "folder (out=, --out)"
    )
