"""Digests of files, kept beside them or within, so that no damage becomes a number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

DIGESTS = "digests.json"  # beside the files that it names
KEY = "digest"  # within an object of JSON
SIZE = 16  # digits
EDITED = f"it is not as it was written: it was damaged, or edited (who edits it takes {KEY!r} out)"


def digest_of(data: bytes) -> str:
    """Return the digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()[:SIZE]


def write_digests(folder: Path) -> None:
    """Write the digests of a local folder's files, which are not to change, beside them."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    named = {file.name: _digest_of_file(file) for file in files if file.name != DIGESTS}
    (folder / DIGESTS).write_text(json.dumps(named, indent=2) + "\n")


def check_digest(file: Path) -> None:
    """Raise ValueError if a file is not as it was when its digest was written; it may have none."""
    beside = file.parent / DIGESTS
    if beside.is_file():
        known = read_digests(beside.read_bytes(), str(beside)).get(file.name)
        if known is not None and known != _digest_of_file(file):
            raise ValueError(changed(str(file)))


def read_digests(data: bytes, where: str) -> dict[str, str]:
    """Return digests by file name.

    Raises:
        ValueError: the file of digests is damaged itself.
    """
    try:
        named = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: {error}") from error
    if not isinstance(named, dict):
        raise ValueError(f"{where} is damaged: expected digests by file name")
    return named


def changed(path: str) -> str:
    """Return what is said of a file that is not as it was written."""
    return (
        f"{path} is damaged: it is not as it was written; restore it from a copy, or, if you have "
        f"changed it yourself, take its line out of {DIGESTS}"
    )


def _digest_of_file(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:SIZE]


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object of JSON with its digest as the last entry."""
    return {**fields, KEY: _digest_of_fields(fields)}


def unsealed(fields: Any) -> tuple[Any, bool]:
    """Return an object without its digest, and whether it is as it was written.

    What has no digest was written by an earlier release, or by hand.
    """
    if not isinstance(fields, dict) or KEY not in fields:
        return fields, True
    rest = {name: value for name, value in fields.items() if name != KEY}
    return rest, fields[KEY] == _digest_of_fields(rest)


def read_sealed(
    text: str, wanted: Callable[[dict[str, Any]], Any] = lambda _: None
) -> dict[str, Any]:
    """Return the object that a text in JSON holds.

    Args:
        text: with a digest in it, or without.
        wanted: takes what was read and raises LookupError or TypeError where something is missing.

    Raises:
        ValueError: it is none, or not as it was written.
    """
    try:
        fields, intact = unsealed(json.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, got {type(fields).__name__}")
    if not intact:
        raise ValueError(EDITED)
    try:
        wanted(fields)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks an entry, or has one of another type: {error!r}") from error
    return fields


def _digest_of_fields(fields: Mapping[str, Any]) -> str:
    parts: Iterable[str] = (json.dumps([name, value]) for name, value in fields.items())
    return digest_of("\n".join(parts).encode())
