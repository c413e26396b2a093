"""The lock of a folder in an object store: claims, which living processes renew.

Object stores lock nothing, and Arrow puts no object only where there is none. But what is put is
listed at once. A process puts a claim, then lists those of others, and holds the folder where there
are none: of two that ask, one at least lists the other's claim. Of those that ask at once, the one
whose claim has the first name waits until the others have gone.

A process that died holds nothing. On its own machine that is known at once; elsewhere it is, by the
clock of the store, when it has not renewed its claim for a minute.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from dataclasses import dataclass

from raynas.core.errors import FolderInUse
from raynas.storage.lock_holder import Holder, in_use
from raynas.storage.run_folder import Folder

PREFIX = ".run.lock."
RENEW_S, GONE_S = 10.0, 60.0  # between renewals, and without any
POLL_S, END_S = 0.5, 5.0


@dataclass(frozen=True)
class Rival:
    """Another process's claim.

    Attributes:
        name: of the object.
        holder: the process; None where the claim does not say.
        holds: whether it holds the folder, or asks for it.
        age_s: since its claim was renewed, by the clock of the store and of this process.
        renewed: whether it was while this process looked on.
    """

    name: str
    holder: Holder | None
    holds: bool
    age_s: float
    renewed: bool

    @property
    def lives(self) -> bool | None:
        """Whether the process is there; None where that is not known yet."""
        known = None if self.holder is None else self.holder.lives
        if known is not None:
            return known
        if self.age_s > GONE_S:
            return False
        return True if self.renewed else None


class Claim:
    """Holds a folder of an object store from the start on.

    Args:
        path: URI of the folder.
        what: this process does there.

    Raises:
        FolderInUse: another process holds it, or asks for it at the same time.
        OSError: it cannot be written to.
    """

    def __init__(self, path: str, what: str) -> None:
        self._folder, self._holder = Folder(path), Holder.here(what)
        self._name = f"{PREFIX}{secrets.token_hex(8)}.json"
        self._seen: dict[str, tuple[str, float]] = {}  # claims of rivals, and since when
        self._renewed: set[str] = set()  # those that changed meanwhile
        self._holds, self._count, self._over = False, 0, threading.Event()
        self._writing = threading.Lock()
        try:
            self._put()
            self._renewal = threading.Thread(target=self._renew, daemon=True)
            self._renewal.start()
            gone = self._win()
            self._holds = True
            self._put()
        except BaseException:
            self.release()
            raise
        for name in gone:
            self._remove(name)

    def release(self) -> None:
        """Let others take it."""
        self._over.set()
        if self._writing.acquire(timeout=END_S):  # a renewal comes to its end, and is the last
            self._remove(self._name)
            self._writing.release()

    def forget(self) -> None:
        """Leave all to the process that was forked: its claim, and its thread."""

    def _win(self) -> list[str]:
        """Return the claims of processes that are gone, once there are no others.

        Raises:
            FolderInUse: another process comes first.
        """
        while True:
            rivals = self._rivals()
            there = [rival for rival in rivals if rival.lives is not False]
            if not there:
                return [rival.name for rival in rivals]
            for rival in there:
                first = rival.lives if rival.holds else rival.name < self._name
                if first:
                    raise FolderInUse(in_use(self._folder.path, rival.holder))
            time.sleep(POLL_S)

    def _rivals(self) -> list[Rival]:
        files = self._folder.changed()
        claims = {name: mtime_ns for name, mtime_ns, _ in files if name.startswith(PREFIX)}
        now_ns = claims.pop(self._name, 0)
        rivals = []
        for name, mtime_ns in claims.items():
            try:
                rivals.append(self._rival(name, (now_ns - mtime_ns) / 1e9))
            except FileNotFoundError:  # withdrawn since it was listed
                continue
            except OSError:  # it changes at this moment, and is looked at again
                rivals.append(Rival(name, None, holds=True, age_s=0.0, renewed=False))
        return rivals

    def _rival(self, name: str, age_s: float) -> Rival:
        try:
            text = self._folder.read(name)
        except ValueError:  # no UTF-8
            text = ""
        before, since_s = self._seen.get(name, (text, time.monotonic()))
        if text != before:
            self._renewed.add(name)
            since_s = time.monotonic()
        self._seen[name] = text, since_s
        holder = Holder.read(text)
        asks = holder is not None and json.loads(text).get("holds") is False
        age_s = max(age_s, time.monotonic() - since_s)
        return Rival(name, holder, not asks, age_s, name in self._renewed)

    def _put(self) -> None:
        with self._writing:
            if self._over.is_set():
                return
            self._count += 1
            said = json.loads(self._holder.to_json())
            said |= {"holds": self._holds, "renewed": self._count}
            self._folder.write(self._name, json.dumps(said))

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S):
            with contextlib.suppress(OSError):  # silent for a while: the next one comes
                if not self._holds or self._folder.has(self._name):  # not taken for gone meanwhile
                    self._put()

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._folder.remove(name)
