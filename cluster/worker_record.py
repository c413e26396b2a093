"""What a worker process leaves on its node about its end: Ray says only that it is gone."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

import ray
from ray.experimental import internal_kv

from raynas.cluster.connect import scratch

PREFIX = "raynas-workers-"
AT, WORN = "at", "worn"  # what is evaluated, and that the process keeps memory of what was
EXIT, SIGNAL, MEMORY, DESCRIPTORS = "exit", "signal", "memory", "descriptors"  # how it ended


class WorkerRecords:
    """Where the workers of a study leave their records; it travels to them.

    Each names its file in the key-value store of the cluster's head, under its actor.
    """

    def __init__(self) -> None:
        job = ray.get_runtime_context().get_job_id()
        self.place = f"{PREFIX}{job}-{uuid.uuid4().hex}/"

    def begin(self) -> WorkerRecord:
        """Begin the record of this process."""
        context = ray.get_runtime_context()
        actor = str(context.get_actor_id())
        record = WorkerRecord(scratch("workers") / actor)
        about = {"node": context.get_node_id(), "pid": os.getpid(), "file": str(record.path)}
        internal_kv._internal_kv_put(self.place + actor, json.dumps(about).encode())
        return record

    def clear(self) -> None:
        """Remove what is left of them on this machine, and of those whose driver was killed."""
        jobs = ray._private.state.jobs()
        dead = [f"{PREFIX}{job['JobID']}-" for job in jobs if job["IsDead"]]
        for place in (self.place, *dead):
            _clear(place)


def _clear(place: str) -> None:
    for key in internal_kv._internal_kv_list(place):
        about = internal_kv._internal_kv_get(key)
        if about is not None:
            with suppress(OSError):
                os.unlink(json.loads(about)["file"])
    internal_kv._internal_kv_del(place, del_by_prefix=True)


class WorkerRecord:
    """A file in which this process notes how it ends: by a signal, or by an exit of its own.

    Children that it forks have no part in it.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._process = path, os.getpid()
        self._file = path.open("ab", buffering=0)
        faulthandler.enable(self._file, all_threads=False)
        self._leave = os._exit
        os._exit = partial(_exit, self)
        signal.signal(signal.SIGTERM, self._terminated)
        os.register_at_fork(after_in_child=faulthandler.disable)

    def note(self, word: str, value: object = "") -> None:
        """Add a line, unless this is a child."""
        if os.getpid() == self._process:
            os.write(self._file.fileno(), f"{word} {value}\n".encode())

    def leave(self, code: int) -> NoReturn:
        """End this process without a note."""
        self._leave(code)

    def close(self) -> None:
        """Remove the file: the process ends as it should."""
        os._exit = self._leave
        if sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__, all_threads=False)
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.note(SIGNAL, "SIGTERM")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _exit(record: WorkerRecord, status: int) -> NoReturn:
    record.note(EXIT, status)
    record.leave(status)
