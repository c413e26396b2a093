"""What runs have come to, for whatever keeps it besides their folders."""

from __future__ import annotations

import math

from raynas.core.locations import under
from raynas.core.progress import RunSummary
from raynas.core.trial import Trial
from raynas.results.result import REPORT, Result
from raynas.results.trained import Trained
from raynas.storage.local_copies import local_file
from raynas.storage.retrain_folder import METRICS
from raynas.storage.run_folder import BEST, Folder


def search_summary(result: Result, best: Trial | None, *, files: bool) -> RunSummary:
    """Return the best trial's metrics and architecture.

    Args:
        result: of the search.
        best: its best trial; None where none was completed.
        files: whether the best architecture's file and the report go with it.
    """
    if best is None:
        return RunSummary()
    kept = []
    if files:
        result.report()
        kept = [_local(result.folder, BEST), _local(result.folder, REPORT)]
    final = {} if result.best_final is None else result.best_final.metrics
    return RunSummary(metrics={**best.metrics, **final}, arch=best.arch.to_json(), files=kept)


def retrain_summary(trained: Trained, *, files: bool) -> RunSummary:
    """Return the metrics of the best weights.

    Args:
        trained: to its end.
        files: whether their file goes with them.
    """
    metrics = {name: value for name, value in trained.metrics.items() if math.isfinite(value)}
    kept = [_local(trained.folder, METRICS)] if files else []
    return RunSummary(metrics=metrics, arch=trained.arch.to_json(), files=kept)


def _local(folder: Folder, name: str) -> str:
    """Return the path of a file in a local folder, or of a copy of one in an object store."""
    return str(local_file(under(folder.path, name)))
