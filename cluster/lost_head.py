"""A Ray that is gone while a run uses it: Ray waits for a minute, and ends without a word."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import ray

LOOK_S = 1.0
PATIENCE_S = 40.0  # for a head that restarts, or a network that is cut; Ray gives up after 60
LOCAL_S = 3.0  # for this machine's own process
FATAL = ("gcs_server", "raylet")  # processes without which nothing goes on


class HeadWatch:
    """Knows whether the Ray that this process is connected to is still there.

    Args:
        address: of a Ray that others have started, whose head may come back; None of our own.
        patience_s: for how long such a head may be silent.
    """

    def __init__(self, address: str | None, patience_s: float = PATIENCE_S) -> None:
        self._address, self._patience_s = address, patience_s
        self._node: Any = ray._private.worker._global_node
        self._head_s = self._local_s = time.monotonic()  # when each was there

    def lost(self) -> str | None:
        """Return what is gone, in words; None while all is there."""
        if self._node is None:  # Ray's client, which says so itself
            return None
        if self._address is None:
            dead = {kind for kind, _ in self._node.dead_processes()}
            gone = [name for name in FATAL if name in dead]
            return f"its process {gone[0]} has died" if gone else None
        return self._silent(time.monotonic())

    def _silent(self, now_s: float) -> str | None:
        host, _, port = self._node.gcs_address.rpartition(":")
        if is_there(socket.AF_INET, (host.strip("[]"), int(port))):
            self._head_s = now_s
        if is_there(socket.AF_UNIX, self._node.raylet_socket_name):
            self._local_s = now_s
        if now_s - self._local_s > LOCAL_S:
            return "its process raylet on this machine has died"
        if (silent_s := now_s - self._head_s) > self._patience_s:
            return f"its head was silent for {silent_s:.0f} s"
        return None


def is_there(family: socket.AddressFamily, address: Any) -> bool:
    """Return whether somebody listens; a busy process does, since the system answers for it."""
    try:
        with socket.socket(family) as probe:
            probe.settimeout(LOOK_S)
            probe.connect(address)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:  # a process of this machine whose queue is full, or a host that is far away
        return family == socket.AF_UNIX
    return True


def end_without_head(address: str | None, why: str, before: Callable[[], None]) -> None:
    """End this process in one sentence; Ray would end it within a minute, and without one.

    Args:
        address: as for ``HeadWatch``.
        why: what is gone.
        before: called before the end.
    """
    where = "this run started" if address is None else f"at {address}"
    what = "" if address is None else "start it again, and "
    print(
        f"the Ray {where} is lost: {why}; {what}go on with resume=True (--resume): what was told "
        "and trained is on disk",
        file=sys.stderr,
        flush=True,
    )
    before()
    os._exit(1)
