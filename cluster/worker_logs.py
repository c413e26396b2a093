"""What workers print, and what Ray says of processes that died: kept in a run's logs, not shown."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ray._private import worker

from raynas.core.locations import masked, under
from raynas.storage.run_folder import Folder
from raynas.storage.text_log import TextLog

LOGS, NAME = "logs", "workers.log"
LAST_S = 0.5  # Ray brings what is printed that often

_logs: list[_Log] = []


class _Log:
    """The file of one run.

    Args:
        out: folder or URI of the run.
    """

    def __init__(self, out: str) -> None:
        self._log = TextLog(Folder(under(out, LOGS)), NAME)
        self.used = False

    def add(self, said: dict[str, Any]) -> None:
        """Add lines of a process, with a time (UTC) and who says them."""
        self.used = True
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        who = f"{said.get('ip') or 'ray'}/{said.get('pid')}"
        lines = [line for text in said["lines"] for line in str(text).splitlines()]
        self._log.add("".join(f"{stamp} {who} {masked(line)}\n" for line in lines))

    def close(self) -> None:
        """Write what has not been written yet."""
        if self.used:
            time.sleep(LAST_S)
        with contextlib.suppress(OSError):
            self._log.flush()


@contextmanager
def diverted() -> Iterator[None]:
    """Take what Ray would print in this process while it is connected."""
    before = worker.print_to_stdstream
    worker.print_to_stdstream = _take
    try:
        yield
    finally:
        worker.print_to_stdstream = before


@contextmanager
def kept_in(out: str) -> Iterator[None]:
    """Write what is taken into a run's folder."""
    log = _Log(out)
    _logs.append(log)
    try:
        yield
    finally:
        log.close()
        _logs.remove(log)


def _take(data: Any, ignore_prefix: bool) -> None:
    del ignore_prefix  # as Ray calls it
    if data.get("pid") == "autoscaler":  # a table of the cluster's nodes every few seconds
        return
    for log in _logs[-1:]:
        with contextlib.suppress(OSError):  # a full disk is the run's own to say
            log.add(data)
