"""JSON in a run's folder: objects with their digests in them, and texts with theirs beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from raynas.core.digests import DIGESTS, changed, digest_of, read_digests, read_sealed, sealed
from raynas.core.errors import StoreMismatch
from raynas.core.locations import under
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
        raise StoreMismatch(f"{under(folder.path, name)} is damaged: {error}") from error


def write_text(folder: Folder, name: str, text: str) -> None:
    """Write a file whose form leaves no place for a digest, and its digest beside it.

    A kill on the way leaves the file without a digest, not with another's.
    """
    known, digest = _digests(folder), digest_of(text.encode())
    if known.get(name, digest) != digest:
        del known[name]
        folder.write(DIGESTS, json.dumps(known, indent=2) + "\n")
    folder.write(name, text)
    if name not in known:
        folder.write(DIGESTS, json.dumps(known | {name: digest}, indent=2) + "\n")


def read_text(folder: Folder, name: str) -> str:
    """Return what ``write_text`` wrote.

    Raises:
        StoreMismatch: the file is not as it was written.
    """
    try:
        text = folder.read(name)
    except ValueError as error:  # no UTF-8
        raise StoreMismatch(f"{under(folder.path, name)} is damaged: {error}") from error
    if _digests(folder).get(name, digest := digest_of(text.encode())) != digest:
        raise StoreMismatch(changed(under(folder.path, name)))
    return text


def _digests(folder: Folder) -> dict[str, str]:
    if not folder.has(DIGESTS):
        return {}
    try:
        return read_digests(folder.read(DIGESTS).encode(), under(folder.path, DIGESTS))
    except ValueError as error:
        where = under(folder.path, DIGESTS)  # which text that is no UTF-8 does not name
        text = str(error) if where in str(error) else f"{where} is damaged: {error}"
        raise StoreMismatch(text) from error
