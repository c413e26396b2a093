"""All that takes a run's news: its log, its trackers, and what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raynas.core.progress import Progress, ProgressGroup, RunInfo
from raynas.report.console import progress_of
from raynas.report.run_log import RunLog
from raynas.report.tracking.session import Tracking


def news_of(progress: Progress | bool | None, track: Any = None) -> ProgressGroup:
    """Return what takes a run's news; the log comes first.

    Args:
        progress: what shows them, as ``progress_of`` takes it.
        track: the trackers, as ``tracker_specs`` takes them.

    Raises:
        LookupError, ValueError, TypeError: no such tracker or option.
        ImportError: the client of a tracker is not installed.
    """
    return ProgressGroup([RunLog(), Tracking(track), progress_of(progress)])


@contextmanager
def reported(news: Progress, run: RunInfo) -> Iterator[None]:
    """Say that a run begins, how it fails if it does, and close at its end."""
    try:
        news.begin(run)
        yield
    except BaseException as error:
        news.fail(error)
        raise
    finally:
        news.close()
