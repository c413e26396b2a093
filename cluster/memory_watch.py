"""Ends a process that takes too much memory; a program of its own, which no busy thread delays.

``python memory_watch.py PID BYTES FILE`` ends with the process. What it notes goes to the file.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

POLL_S = 0.05
KIB = 1024


def main() -> None:
    """Watch until the process is gone."""
    process, limit_bytes, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    while os.getppid() == process:
        began_s = time.monotonic()
        family = [process, *descendants(process)]
        if sum(map(upper_bytes, family)) > limit_bytes and taken_bytes(family) > limit_bytes:
            with open(file, "a") as record:
                record.write("memory\n")
            for member in family:
                with suppress(OSError):
                    os.kill(member, signal.SIGKILL)
        time.sleep(max(POLL_S, 9 * (time.monotonic() - began_s)))  # a tenth of a core at most


def descendants(process: int) -> list[int]:
    """Return the children of a process, theirs, and so on, but for this one."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError, IndexError), open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(name))
    family, new = list[int](), [process]
    while new:
        new = [child for parent in new for child in parents.get(parent, ())]
        family += new
    return family


def upper_bytes(process: int) -> int:
    """Return what a process has in memory or swapped, files aside; shared pages count whole."""
    fields = ("RssAnon", "RssShmem", "VmSwap")
    with suppress(OSError), open(f"/proc/{process}/status") as file:
        lines = (line.split() for line in file if line.startswith(fields))
        return sum(int(line[1]) for line in lines) * KIB
    return 0


def taken_bytes(family: list[int]) -> int:
    """Return what processes take, each page once, without files and Ray's object store."""
    return sum(map(_own_bytes, family))


def _own_bytes(process: int) -> int:
    total_kib, counts = 0, False
    with suppress(OSError), open(f"/proc/{process}/smaps") as file:
        for line in file:
            name, _, value = line.partition(":")
            if " " in name:  # a mapping begins: addresses, permissions, and a path if it has one
                path = line.split(maxsplit=5)[5].strip() if len(line.split()) > 5 else ""
                shared = path.startswith(("/dev/shm/", "/memfd:", "/dev/zero", "/SYSV"))
                counts = "plasma" not in path and (not path.startswith("/") or shared)
            elif counts and name in ("Pss", "SwapPss"):
                total_kib += int(value.split()[0])
    return total_kib * KIB


if __name__ == "__main__":
    main()
