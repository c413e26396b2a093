"""The report of a run that goes on, written anew until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from raynas.results.result import Result
from raynas.results.run_state import is_over

EVERY_S, LEAST_S = 5.0, 0.2


def watch(
    run: str,
    file: str | None = None,
    *,
    every_s: float = EVERY_S,
    wrote: Callable[[str, int, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Write a run's report again and again until the run has ended, and return its path.

    Meanwhile the page loads itself anew. A run that was killed, or failed before its first
    completed trial, never says that it has ended: stop with Ctrl-C.

    Args:
        run: its folder.
        file: local path; None writes ``report.html`` into the run's folder.
        every_s: seconds between two pages.
        wrote: told after every page: its path, trials told, and trials planned.
        sleep: waits for some seconds.

    Raises:
        ValueError: a time too short to draw a page in.
    """
    if not every_s >= LEAST_S:
        raise ValueError(f"every must be at least {LEAST_S} seconds, got {every_s!r}")
    while True:
        result = Result(run)
        told, planned = len(result.trials), result.config.trials
        over = is_over(result)
        written = result.report(file, refresh_s=None if over else every_s)
        if wrote is not None:
            wrote(written, told, planned)
        if over:
            return written
        sleep(every_s)
