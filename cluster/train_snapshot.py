"""What Ray Train keeps of its checkpoints beside them, checked before Ray reads it."""

from __future__ import annotations

import re

import ray

from raynas.core.digests import read_sealed
from raynas.storage.run_folder import Folder

SNAPSHOT = "checkpoint_manager_snapshot.json"
_NAME = re.compile(r"checkpoint_[\w.\-]+")
_LISTS = ("checkpoint_results", "pending_training_results")


def drop_unsound_snapshot(folder: Folder) -> None:
    """Remove Ray's list of checkpoints where Ray would fail on it, or leave the folder.

    Ray joins the names in it to the folder and deletes what it no longer keeps, so that a name such
    as ``../../home`` would delete something else. Nothing is lost: where a training goes on is told
    by the checkpoints themselves.

    Args:
        folder: of a job's checkpoints.
    """
    if folder.has(SNAPSHOT) and not _is_sound(folder):
        folder.remove(SNAPSHOT)


def _is_sound(folder: Folder) -> bool:
    try:
        kept = read_sealed(folder.read(SNAPSHOT))
        listed = [result for name in _LISTS for result in kept[name]]
        last = kept.get("latest_checkpoint_result")
        names = [str(result["checkpoint_dir_name"]) for result in [*listed, *([last] * bool(last))]]
    except (ValueError, LookupError, TypeError):
        return False
    there = set(folder.names())
    whole = kept.get("ray_version") == ray.__version__
    return whole and all(_NAME.fullmatch(name) and name in there for name in names)
