"""The log of a run: ``logs/run.log`` in its folder, with all that has happened."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from raynas.core.final_request import FINAL
from raynas.core.locations import masked, under
from raynas.core.progress import NOTES, Progress, RunInfo, RunSummary
from raynas.core.secret_options import masked_options
from raynas.core.study import Study
from raynas.core.trial import Trial
from raynas.core.versions import versions
from raynas.storage.run_folder import Folder
from raynas.storage.text_log import TextLog

LOGS, RUN_LOG = "logs", "run.log"


class RunLog(Progress):
    """Writes what happens as lines of a time (UTC), a word that says what kind, and text.

    A run that goes on adds to the log. What comes before the run's folder is claimed is kept until
    then, and dropped if that never comes.

    Args:
        now: gives the time.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now, self._lock = now, threading.RLock()
        self._early: list[str] = []
        self._log: TextLog | None = None
        self._best: tuple[str, int, int] | None = None
        self._began_s = time.monotonic()
        self._shows_warning: Callable[..., None] | None = None

    def begin(self, run: RunInfo) -> None:
        """Open the log in the run's folder, and say what runs."""
        super().begin(run)
        releases = {**versions(), "python": platform.python_version()}
        text = ", ".join(f"{name} {release}" for name, release in releases.items())
        self._add("begin", f"{run.kind} in {run.out} on {platform.node()} ({text})")
        self._add("command", masked_options(shlex.join(sys.argv)))
        self._add("config", json.dumps(run.config))
        with self._lock:
            self._log = TextLog(Folder(under(run.out, LOGS)), RUN_LOG)
            self._log.add("".join(self._early))
            self._early.clear()
        self._shows_warning, warnings.showwarning = warnings.showwarning, self._warned

    def phase(self, text: str) -> None:
        """Log it."""
        self._add("phase", text)

    def noted(self, text: str) -> None:
        """Log it."""
        self._add("note", text)

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Log the epoch's row, and what the algorithm has to say."""
        values = {k: v for k, v in row.items() if k not in ("epoch", NOTES) and v is not None}
        self._add("epoch", f"{self.trains} {int(row['epoch']) + 1}/{epochs} {_pairs(values)}")
        for line in str(row.get(NOTES) or "").splitlines():
            self._add("note", line)

    def recorded(self, trials: Sequence[Trial]) -> None:
        """Log the trials, in one piece."""
        self._add_all([line for trial in trials for line in _about(trial)])

    def told(self, study: Study) -> None:
        """Log the best trial where it is a new one."""
        best = study.best
        if best is None or self._best == (which := (best.algo, best.seed, best.number)):
            return
        self._best = which
        # numbers of what is evaluated again are not those of the run's trials
        place = f"at the end, seed {best.seed}:" if best.algo == FINAL else f"trial {best.number}"
        self._add("best", f"{place} {best.arch.key} {_pairs(best.metrics)}")

    def finish(self, summary: RunSummary) -> None:
        """Log what the run has come to."""
        if summary.arch is not None:
            self._add("arch", summary.arch)
        self._add("end", f"after {self._elapsed_s:.1f} s {_pairs(summary.metrics)}".rstrip())

    def fail(self, error: BaseException) -> None:
        """Log what has ended the run, and where it was raised."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self._add("stopped", f"{error} (after {self._elapsed_s:.1f} s)")
            return
        trace = "".join(traceback.format_exception(error))
        text = f"{type(error).__name__}: {error} (after {self._elapsed_s:.1f} s)"
        with suppress(OSError):  # a full disk, which may be what has ended the run
            self._add("failed", f"{text}\n{trace}")

    def close(self) -> None:
        """Write what has not been written yet, and log no more."""
        if self._shows_warning is not None:
            warnings.showwarning, self._shows_warning = self._shows_warning, None
        with self._lock:
            if self._log is not None:
                self._log.flush()
            self._log = None

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _warned(self, *args: Any, **keywords: Any) -> None:
        """Log a warning, and show it as it would have been."""
        message, category, filename, line = args[:4]
        self._add("warning", f"{category.__name__}: {message} ({filename}:{line})")
        if self._shows_warning is not None:
            self._shows_warning(*args, **keywords)

    def _add(self, word: str, text: str) -> None:
        self._add_all([(word, text)])

    def _add_all(self, lines: Sequence[tuple[str, str]]) -> None:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        text = "".join(f"{stamp} {word:<8} {_indented(masked(told))}\n" for word, told in lines)
        with self._lock:
            if self._log is None:
                self._early.append(text)
            else:
                self._log.add(text)


def _about(trial: Trial) -> list[tuple[str, str]]:
    """Return lines on a trial, and on what went wrong with it."""
    values = {**trial.metrics, **trial.text_metrics}
    text = f"{trial.number} {trial.arch.key} {trial.status} {_pairs(values)}".rstrip()
    where = f"{trial.node}/{trial.worker}" if trial.worker else ""
    took = f"{trial.duration_s:.3g} s" if trial.duration_s else ""
    aside = ", ".join(filter(None, [took, where]))
    lines = [("trial", f"{text} ({aside})" if aside else text)]
    if trial.error is not None:
        lines.append(("error", f"trial {trial.number}: {trial.traceback or trial.error}"))
    if trial.left_out is not None:
        lines.append(("note", f"trial {trial.number} left out: {trial.left_out}"))
    return lines


def _pairs(values: Mapping[str, Any]) -> str:
    """Return names and values as one line.

    >>> _pairs({"loss": 0.123456789, "epoch": 3.0, "algo": "spos"})
    'loss=0.123457 epoch=3 algo=spos'
    """
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )


def _indented(text: str) -> str:
    """Return text whose further lines cannot be taken for entries of their own."""
    return text.rstrip("\n").replace("\n", "\n    ")
