"""What a run's folder keeps of its trackers, by which a later start goes on; no password."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from raynas.core.locations import under
from raynas.core.secret_options import secret_names, without_secrets
from raynas.storage.json_files import read_json, write_json
from raynas.storage.run_folder import Folder

TRACKING = "tracking.json"
WITHOUT = "without"  # names of options that were secret, or held what is


def remembered(folder: Folder) -> dict[str, dict[str, Any]]:
    """Return by tracker what earlier starts have left: ``options``, ``id`` and ``without``.

    Raises:
        StoreMismatch: the file is damaged, or holds something else.
    """
    return read_json(folder, TRACKING, _check) if folder.has(TRACKING) else {}


def remember(folder: Folder, name: str, options: Mapping[str, Any], identity: str | None) -> None:
    """Keep what a tracker was given, without what is secret, and how it calls this run."""
    entry: dict[str, Any] = {"options": without_secrets(options), "id": identity}
    if secret := secret_names(options):
        entry[WITHOUT] = secret
    write_json(folder, TRACKING, {**remembered(folder), name: entry})


def earlier_options(folder: Folder) -> list[tuple[str, dict[str, Any]]]:
    """Return names and options of a run's trackers; a warning says what no file has kept."""
    before = remembered(folder)
    for name, entry in before.items():
        if secret := entry.get(WITHOUT):
            warnings.warn(
                f"track: {name} goes on without what was secret in {', '.join(secret)}, which "
                f"{under(folder.path, TRACKING)} does not hold: give track= (--track) again, or "
                "set its client's variables of the environment",
                RuntimeWarning,
                stacklevel=2,
            )
    return [(name, dict(entry["options"])) for name, entry in before.items()]


def _check(fields: Mapping[str, Any]) -> None:
    """Raise LookupError or TypeError unless this is what ``remember`` writes."""
    for name, entry in fields.items():
        if not isinstance(entry, dict) or not isinstance(entry["options"], dict):
            raise TypeError(f"{name} has no options")
        if not isinstance(entry.get("id"), str | None):
            raise TypeError(f"{name} has an id that is no text")
        if not all(isinstance(one, str) for one in entry.get(WITHOUT, [])):
            raise TypeError(f"{name} has names that are no texts")
