"""How far a run has come, told from its folder."""

from __future__ import annotations

from pathlib import Path

from raynas.core.config import SearchConfig
from raynas.storage.run_folder import BEST, CONFIG

LOGS = ("trials", "history", CONFIG)
Signature = tuple[tuple[str, int, int], ...]


def is_over(path: str, config: SearchConfig, told: int) -> bool:
    """Return whether a run has ended: all trials are told, or it closed its folder.

    A run closes its folder, stopped by Ctrl-C as well, by writing the best architecture; one that
    was killed, or failed before it had any, does not.

    Args:
        path: its folder; of a URI only the trials are counted.
        config: of the run.
        told: how many trials are told.
    """
    if told >= config.trials:
        return True
    best = Path(path, BEST)
    if "://" in path or not best.exists():
        return False
    return best.stat().st_mtime_ns >= max(when for _, when, _ in signature(path) or [("", 0, 0)])


def signature(path: str) -> Signature:
    """Return name, time of the last change, and size of a run's files, to see that it goes on.

    Args:
        path: a local folder.
    """
    files = [Path(path, CONFIG)]
    for name in LOGS:
        files += sorted(Path(path, name).glob("*.parquet"))
    found = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:  # merged into another in the meantime, or missing
            continue
        found.append((file.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)
