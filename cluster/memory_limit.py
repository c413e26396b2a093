"""A limit on the memory of this process and its children."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from raynas.cluster import memory_watch
from raynas.cluster.worker_record import AT, DESCRIPTORS, MEMORY, WORN, WorkerRecord

GB = 10**9
OVER_MEMORY = "the evaluation took more than {:g} GB (ray.memory_gb)"
SLACK_BYTES = 256 * 2**20  # for threads and libraries, which ask for more than they use
WORN_SHARE = 0.1  # of the limit, kept of earlier evaluations
SIGNS = ("MemoryError", "can't allocate memory", "Cannot allocate memory", "bad_alloc")


class MemoryLimit:
    """Limits what this process takes, what its evaluator needs by itself included.

    One request beyond the limit fails where it is made; a program of its own ends the process when
    what was granted adds up to more. A process that keeps memory of earlier evaluations is worn:
    what fails in it is tried again in another.

    Args:
        limit_gb: that evaluations may take.
        record: of this process.
        rlimit: whether the system limits requests; drivers of GPUs reserve what they never use.
    """

    def __init__(self, limit_gb: float, record: WorkerRecord, *, rlimit: bool = True) -> None:
        self._bytes, self._record, self._worn = int(limit_gb * GB), record, False
        if not sys.platform.startswith("linux"):
            raise OSError(f"ray.memory_gb={limit_gb:g}: only Linux says what a process takes")
        self._base_bytes = own_bytes()
        if self._base_bytes > self._bytes:
            raise MemoryError(
                f"a worker takes {self._base_bytes / GB:.2f} GB before its first evaluation, and "
                f"ray.memory_gb={limit_gb:g} allows less"
            )
        command = [sys.executable, "-I", "-S", memory_watch.__file__]
        command += [str(os.getpid()), str(self._bytes), str(record.path)]
        self._watch = subprocess.Popen(command)
        if rlimit:
            room = self._bytes - self._base_bytes + SLACK_BYTES
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            most = _data_bytes() + room
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))

    def begin(self, arch: str) -> None:
        """Note before an evaluation of what it is, and whether the process is worn."""
        self._record.note(AT, arch)
        kept_bytes = own_bytes() - self._base_bytes
        if not self._worn and kept_bytes > WORN_SHARE * self._bytes:
            self._worn = True
            self._record.note(WORN)

    def is_over(self, error: str) -> bool:
        """Return whether an evaluation failed for memory; a worn process ends here instead."""
        over = any(sign in error for sign in SIGNS)
        if over and self._worn:
            self._record.note(MEMORY)
            self._record.leave(1)
        return over

    def close(self) -> None:
        """End the watch."""
        self._watch.terminate()
        self._watch.wait()


def end_if_out_of_files(error: str, record: WorkerRecord) -> None:
    """End a process which earlier evaluations left no file descriptors."""
    if "Too many open files" in error:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if max(map(int, os.listdir("/proc/self/fd")), default=0) > 0.8 * most:
            record.note(DESCRIPTORS)
            record.leave(1)


def own_bytes() -> int:
    """Return what this process has in memory, files and shared memory aside."""
    with open("/proc/self/status") as file:
        anonymous = next(line for line in file if line.startswith("RssAnon"))
    return int(anonymous.split()[1]) * memory_watch.KIB


def _data_bytes() -> int:
    with open("/proc/self/status") as file:
        data = next(line for line in file if line.startswith("VmData"))
    return int(data.split()[1]) * memory_watch.KIB
