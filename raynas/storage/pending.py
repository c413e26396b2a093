"""What of a run was asked and not yet told, and the lock under which several processes do both."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raynas.core.arch import Arch
from raynas.core.digests import KEY, read_sealed, sealed
from raynas.core.errors import InvalidArch, StoreMismatch
from raynas.core.locations import is_uri
from raynas.core.study import Asked
from raynas.storage.local_lock import ASK_TELL, open_lock
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.run_lock import RunLock

ASKED, LOCK = "asked.jsonl", ".lock"


@contextmanager
def locked(path: str) -> Iterator[RunLock]:
    """Keep all others out of a run's folder who ask for the same; wait until they are done.

    The lock goes with the process that holds it, however that ends. Yielded is the one that keeps
    searches out.

    Args:
        path: of a local folder, which is made.

    Raises:
        FolderInUse: a search runs in it.
    """
    with open_lock(Path(path), f"{path}/{LOCK}") as file, RunLock(ASK_TELL) as lock:
        fcntl.flock(file, fcntl.LOCK_EX)
        lock.take(path)
        yield lock


def check_lockable(path: str) -> None:
    """Raise ValueError unless a run's folder is a local one."""
    if is_uri(path):
        raise ValueError(f"asking and telling take a local folder, which can be locked, got {path}")


def write_pending(folder: Folder, pending: Iterable[Asked]) -> None:
    """Keep what was handed out and not told, in the order of asks; the file is there whole.

    Where there is nothing, a line says so: an empty file is one that was cut.
    """
    asks = sorted(pending, key=lambda asked: asked.event)
    entries: list[dict[str, Any]] = [
        {"trial": a.number, "event": a.event, "arch": dict(a.arch), "of": len(asks)} for a in asks
    ]
    entries = entries or [{"of": 0}]
    folder.write(ASKED, "".join(json.dumps(sealed(entry)) + "\n" for entry in entries))


def read_pending(folder: Folder) -> list[tuple[int, Arch]]:
    """Return number and architecture of what was handed out, in the order of asks.

    Raises:
        StoreMismatch: the file holds something else, or is damaged.
    """
    if not folder.has(ASKED):
        return []
    found: list[tuple[int, Arch]] = []
    try:
        lines = folder.read(ASKED).splitlines()
        if not lines and _is_sealed(folder):
            raise ValueError("the file is empty, and even without proposals it has a line")
        for line in lines:
            entry = read_sealed(line)
            if entry == {"of": 0} and len(lines) == 1:
                return []
            if entry.get("of", len(lines)) != len(lines):  # releases before wrote none
                raise ValueError(f"{entry['of']} lines were written, and there are {len(lines)}")
            found.append((int(entry["trial"]), Arch.from_json(json.dumps(entry["arch"]))))
    except (ValueError, TypeError, KeyError, InvalidArch) as error:
        where = f"{folder.path}/{ASKED}, line {len(found) + 1}"
        raise StoreMismatch(f"{where} is no proposal: {error}") from error
    return found


def _is_sealed(folder: Folder) -> bool:
    """Return whether a run is of a release whose files have digests; those before wrote none."""
    return not folder.has(CONFIG) or KEY in json.loads(folder.read(CONFIG))
