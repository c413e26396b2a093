"""From the news of a run to the trackers that it names."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from raynas.core.locations import MASK, masked
from raynas.core.progress import Progress, ProgressGroup, RunInfo, RunSummary
from raynas.core.secret_options import secrets_of
from raynas.core.study import Study, rank
from raynas.core.trial import Trial
from raynas.report.tracking.base import TRACKERS, Axis, Point, Status, Tracker
from raynas.report.tracking.remembered import earlier_options, remember, remembered
from raynas.storage.run_folder import Folder

SEND_S = 1.0  # between what is sent, so that a fast search does not wait for a server
RETRY_S = 30.0  # after a failure

Specs = list[tuple[str, dict[str, Any]]]


def tracker_specs(given: Any) -> Specs:
    """Return names and options of trackers.

    >>> tracker_specs(["tensorboard", ("mlflow", {"experiment": "mine"})])
    [('tensorboard', {}), ('mlflow', {'experiment': 'mine'})]
    >>> tracker_specs({"mlflow": {"experiment": "mine"}}) == tracker_specs(
    ...     ("mlflow", {"experiment": "mine"})
    ... )
    True

    Args:
        given: a name, a pair of a name and options, a dict from name to options, or a list of such.

    Raises:
        TypeError: none of these.
    """
    if given is None or given is False:
        return []
    if isinstance(given, str):
        return [(given, {})]
    if isinstance(given, Mapping):
        return [(name, dict(options or {})) for name, options in given.items()]
    if isinstance(given, list | tuple):
        if len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], Mapping):
            return [(given[0], dict(given[1]))]
        return [spec for part in given for spec in tracker_specs(part)]
    raise TypeError(
        'track: expected a name such as "tensorboard", (name, {option: value}) or a list of such, '
        f"got {given!r}"
    )


class Tracking(ProgressGroup):
    """Hands a run's news to the trackers that are named, or to those of its earlier start.

    Args:
        given: as ``tracker_specs`` takes it; None goes on with what the run's folder says.

    Raises:
        UnknownName: there is no such tracker.
        ValueError: it has no such option.
        ImportError: its client is not installed.
    """

    def __init__(self, given: Any = None) -> None:
        super().__init__(_sessions(tracker_specs(given)))
        self._remembers = given is None

    def begin(self, run: RunInfo) -> None:
        """Let the trackers begin."""
        if self._remembers:
            self.members = tuple(_sessions(earlier_options(Folder(run.out))))
        super().begin(run)


def _sessions(specs: Specs) -> list[Session]:
    return [Session(TRACKERS.name_of(n), options) for n, options in dict(specs).items()]


class Session(Progress):
    """One tracker in one run.

    Numbers of epochs have the names of the history's columns, and the epoch as step. Those of
    trials are ``trial/<metric>``, and ``best/<objective>`` what the best has so far; their step is
    the trial's number. What cannot be sent is kept and tried again: a warning says so, and the run
    goes on.

    Args:
        name: of the tracker.
        options: of the tracker.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name, self._options = name, dict(options)
        self._tracker: Tracker = TRACKERS.build([name, dict(options)])
        self._status: Status = "stopped"
        self._wait = "wait to be sent"
        self._begun = False
        self._best: Trial | None = None
        self._trials: list[tuple[float, Trial]] = []
        self._points: list[Point] = []
        self._due_s, self._lock = 0.0, threading.RLock()

    @property
    def takes_files(self) -> bool:
        """Whether the tracker does."""
        return self._tracker.takes_files

    def begin(self, run: RunInfo) -> None:
        """Let the tracker begin, and keep in the folder by what a later start goes on."""
        folder = Folder(run.out)
        before = remembered(folder).get(self._name, {})
        identity = self._tracker.begin(run, before.get("id"))
        self._begun = True
        remember(folder, self._name, self._options, identity)

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Send an epoch's numbers."""
        numbers = {k: float(v) for k, v in row.items() if isinstance(v, int | float)}
        self._add("epoch", int(numbers.pop("epoch")), time.time(), numbers)
        self._send()

    def recorded(self, trials: Sequence[Trial]) -> None:
        """Keep trials until it is said which study they are of."""
        with self._lock:
            self._trials += [(time.time(), trial) for trial in trials]

    def told(self, study: Study) -> None:
        """Send trials, and the best so far after each."""
        with self._lock:
            trials, self._trials = self._trials, []
            if not trials:
                self._best = study.best
            for told_s, trial in trials:
                if trial.scored and (self._best is None or rank(trial) > rank(self._best)):
                    self._best = trial
                values = {f"trial/{name}": value for name, value in trial.metrics.items()}
                if self._best is not None:
                    names = [objective.metric for objective in study.goals.objectives]
                    own = self._best.metrics
                    values |= {f"best/{name}": own[name] for name in names if name in own}
                self._add("trial", trial.number, told_s, values)
        self._send()

    def finish(self, summary: RunSummary) -> None:
        """Send what is left and what the run has come to."""
        self._status = "finished"
        self._due_s = 0.0
        self._send()
        self._try(lambda: self._tracker.finish(summary))

    def fail(self, error: BaseException) -> None:
        """Remember how the run ended."""
        self._status = "stopped" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"

    def close(self) -> None:
        """Send what is left, and let the tracker end."""
        if not self._begun:
            return
        self._due_s, self._wait = 0.0, "were not sent"
        self._send()
        self._begun = False
        self._try(lambda: self._tracker.end(self._status))

    def _add(self, axis: Axis, step: int, time_s: float, values: Mapping[str, float]) -> None:
        if values:
            with self._lock:
                self._points.append(Point(axis=axis, step=step, time_s=time_s, values=values))

    def _send(self) -> None:
        with self._lock:
            if not self._points or time.monotonic() < self._due_s:
                return
            sent = self._try(lambda: self._tracker.log(self._points))
            self._points = [] if sent else self._points
            self._due_s = time.monotonic() + (SEND_S if sent else RETRY_S)

    def _try(self, call: Any) -> bool:
        """Return whether a call to somebody else's client succeeds; a warning says so if not."""
        try:
            call()
        except Exception as error:
            text = masked(" ".join(str(error).split()))
            for secret in secrets_of(self._options):
                text = text.replace(secret, MASK)
            warnings.warn(
                f"track: {self._name} took nothing ({type(error).__name__}: {text}); the run goes "
                f"on, and {len(self._points)} epochs and trials {self._wait}",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        return True
