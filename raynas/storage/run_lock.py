"""One run at a time writes to a folder: a lock that goes with its process, however that ends."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from types import TracebackType

from raynas.core.locations import is_uri
from raynas.storage.claims import Claim
from raynas.storage.local_lock import LocalLock
from raynas.storage.run_folder import Folder, absolute


class RunLock:
    """Keeps other runs out of the folders that a run writes to, until it is closed.

    Readers take no lock. It is removed at the end; what a killed process has left behind is
    nobody's, in an object store and on another machine after a minute.

    Args:
        what: the run is, for those who find the folder locked.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._held: dict[str, LocalLock | Claim] = {}

    def __enter__(self) -> RunLock:
        _ALL.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._held:
            self._held.popitem()[1].release()

    def take_if_there(self, path: str) -> None:
        """Take the lock of a folder that may be missing, as that of a run which has not begun."""
        place = absolute(path)
        if Folder(place).names() if is_uri(place) else Path(place).is_dir():
            self.take(path)

    def take(self, path: str) -> None:
        """Take the lock of a folder, which is made; one that is taken already stays so.

        Args:
            path: of the folder, or its URI.

        Raises:
            FolderInUse: another run writes to it.
            OSError: it cannot be made, or written to.
        """
        place = absolute(path)
        if place not in self._held:
            uri = is_uri(place)
            self._held[place] = (
                Claim(place, self._what) if uri else LocalLock(Path(place), self._what)
            )

    def forget(self) -> None:
        """Leave the locks to the process that was forked, with which they end."""
        for held in self._held.values():
            held.forget()
        self._held = {}


_ALL: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    for lock in list(_ALL):
        lock.forget()


os.register_at_fork(after_in_child=_forget_in_child)
