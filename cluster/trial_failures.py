"""What ended the Tune trials that failed: a searcher is told only that they did."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import tune


class TrialFailures(tune.Callback):
    """Keeps the trials that run, which know what they failed of."""

    def __init__(self) -> None:
        self._running: dict[str, Any] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep a trial."""
        self._running[trial.trial_id] = trial

    def pop(self, trial_id: str) -> str:
        """Return what Ray says that a trial failed of, and forget it; empty if it did not."""
        trial = self._running.pop(trial_id, None)
        if trial is None or trial.error_file is None:
            return ""
        with suppress(OSError):
            return Path(trial.error_file).read_text()
        return ""

    def __getstate__(self) -> dict[str, Any]:
        return {"_running": {}}
