"""How far a run has come, told from its folder."""

from __future__ import annotations

from collections.abc import Iterator

from raynas.core.final_request import FINAL
from raynas.core.locations import under
from raynas.results.run_trials import RunTrials
from raynas.storage.run_folder import BEST, CONFIG, Folder

LOGS = ("trials", "history")
Signature = tuple[tuple[str, int, int], ...]


def is_over(run: RunTrials) -> bool:
    """Return whether a run has ended: all trials are told, or it closed its folder.

    Where its best are evaluated again at the end, all that are the best now have to be.

    A run closes its folder, stopped by Ctrl-C as well, by writing the best architecture; one that
    was killed, or failed before it had any, does not.

    Args:
        run: as its folder holds it.
    """
    if run.all_told:
        return True
    best = [when for name, when, _ in run.folder.changed() if name == BEST]
    files = signature(run.path) or [("", 0, 0)]
    return bool(best) and best[0] >= max(when for _, when, _ in files)


def signature(path: str) -> Signature:
    """Return name, time of the last change, and size of a run's files, to see that it goes on.

    Args:
        path: a folder or URI.
    """
    files = [file for file in Folder(path).changed() if file[0] == CONFIG]
    for name in [*(under(path, log) for log in LOGS), *_final_tables(path)]:
        inside = Folder(name).changed()
        files += [file for file in inside if file[0].endswith(".parquet")]
    return tuple(files)


def _final_tables(path: str) -> Iterator[str]:
    """Yield the folders of trials of what a run's end evaluated again."""
    for key in Folder(under(path, FINAL)).entries():
        for seed in Folder(under(path, FINAL, key)).entries():
            yield under(path, FINAL, key, seed, LOGS[0])
