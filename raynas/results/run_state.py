"""How far a run has come, told from its folder."""

from __future__ import annotations

from raynas.core.config import SearchConfig
from raynas.core.locations import under
from raynas.storage.run_folder import BEST, CONFIG, Folder

LOGS = ("trials", "history")
Signature = tuple[tuple[str, int, int], ...]


def is_over(path: str, config: SearchConfig, told: int) -> bool:
    """Return whether a run has ended: all trials are told, or it closed its folder.

    A run closes its folder, stopped by Ctrl-C as well, by writing the best architecture; one that
    was killed, or failed before it had any, does not.

    Args:
        path: its folder.
        config: of the run.
        told: how many trials are told.
    """
    if told >= config.trials:
        return True
    best = [when for name, when, _ in Folder(path).changed() if name == BEST]
    return bool(best) and best[0] >= max(when for _, when, _ in signature(path) or [("", 0, 0)])


def signature(path: str) -> Signature:
    """Return name, time of the last change, and size of a run's files, to see that it goes on.

    Args:
        path: a folder or URI.
    """
    files = [file for file in Folder(path).changed() if file[0] == CONFIG]
    for name in LOGS:
        inside = Folder(under(path, name)).changed()
        files += [file for file in inside if file[0].endswith(".parquet")]
    return tuple(files)
