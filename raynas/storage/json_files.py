"""Objects of JSON in a run's folder, with their digests in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from raynas.core.digests import read_sealed, sealed
from raynas.core.errors import StoreMismatch
from raynas.storage.run_folder import Folder


def write_json(folder: Folder, name: str, fields: Mapping[str, Any]) -> None:
    """Write an object as a file of a folder."""
    folder.write(name, json.dumps(sealed(fields), indent=2) + "\n")


def read_json(
    folder: Folder, name: str, wanted: Callable[[dict[str, Any]], Any] = lambda _: None
) -> dict[str, Any]:
    """Return the object in a file of a folder.

    Args:
        folder: that holds it.
        name: of the file.
        wanted: takes what was read and raises LookupError or TypeError where something is missing.

    Raises:
        StoreMismatch: it holds something else, or is not as it was written.
    """
    try:
        return read_sealed(folder.read(name), wanted)
    except ValueError as error:
        raise StoreMismatch(f"{folder.path}/{name} is damaged: {error}") from error
