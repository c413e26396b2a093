"""Processes that Ray has started, which do not all end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

END_S = 5.0  # in which processes end that are told to

Process = tuple[int, str]  # number, and the instant of its start, since numbers come again


def descendants(above: Iterable[int]) -> set[Process]:
    """Return processes that run, and all that they have started; none where there is no /proc."""
    running = {number: (parent, began) for number, parent, began in _running()}
    found: set[Process] = set()
    waiting = [number for number in above if number in running]
    while waiting:
        number = waiting.pop()
        found.add((number, running[number][1]))
        waiting += [child for child, (parent, _) in running.items() if parent == number]
    return found


def end(processes: set[Process]) -> None:
    """End those of the processes that still run: by SIGTERM, and soon by SIGKILL."""
    _send(processes, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while (left := _still(processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    _send(left, signal.SIGKILL)


def _still(processes: set[Process]) -> set[Process]:
    return processes & {(number, began) for number, _, began in _running()}


def _send(processes: set[Process], kind: signal.Signals) -> None:
    for number, _ in _still(processes):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(number, kind)


def _running() -> list[tuple[int, int, str]]:
    """Return number, parent and start of all processes, as Linux tells."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            number, _, tail = entry.read_text(errors="replace").partition(" ")
            state, parent, *others = tail.rpartition(")")[2].split()
            if state != "Z":
                found.append((int(number), int(parent), others[17]))
    return found
