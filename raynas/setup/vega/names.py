"""Names of theirs: compared as their registries do, and the nearest one where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from raynas.core.registry import nearest_spelling, normalised

T = TypeVar("T")


def looked_up(table: Mapping[str, T], name: str, what: str, where: str) -> T:
    """Return the entry of a name in any spelling.

    >>> looked_up({"DARTSOptim": 1}, "darts_optim", "optimizer", "optim.type")
    1

    Args:
        table: by their names.
        name: as a file has it.
        what: it is the name of.
        where: it stands, by key path.

    Raises:
        LookupError: there is none; the nearest is named.
    """
    by_key = {normalised(known): entry for known, entry in table.items()}
    if normalised(name) not in by_key:
        hint = nearest_spelling(name, table)
        raise LookupError(f"{where}: no {what} named {name!r} is understood; {hint}")
    return by_key[normalised(name)]


def is_name(name: str, *known: str) -> bool:
    """Return whether a name is one of these in some spelling."""
    return normalised(name) in {normalised(word) for word in known}
