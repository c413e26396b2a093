"""``ref: nas.trainer``: a section that begins with another one's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.core.errors import nearest

REF = "ref"


def resolved(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file in which every section has the values of the one that it refers to.

    Its own values come on top; sections are merged, lists and values replaced.

    Raises:
        LookupError: there is no such section.
        ValueError: a reference is no key path, or leads back to itself.
    """
    return {key: _section(value, key, tree, ()) for key, value in tree.items()}


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return two sections as one; what ``over`` says counts."""
    both = dict(under)
    for key, value in over.items():
        old = both.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        both[key] = merged(old, value) if nested else value  # type: ignore[arg-type]
    return both


def _section(value: Any, path: str, tree: Mapping[str, Any], open_: tuple[str, ...]) -> Any:
    if not isinstance(value, Mapping):
        return value
    own = {
        key: _section(inner, f"{path}.{key}", tree, open_)
        for key, inner in value.items()
        if key != REF
    }
    if REF not in value:
        return own
    target = value[REF]
    if not isinstance(target, str):
        raise ValueError(f"{path}.{REF}: expected a key path such as nas.trainer, got {target!r}")
    if target in open_ or target == path:
        raise ValueError(f"{path}.{REF}: {target} refers to itself")
    under = _section(_found(target, f"{path}.{REF}", tree), target, tree, (*open_, target))
    return merged(under, own)


def _found(target: str, where: str, tree: Mapping[str, Any]) -> Mapping[str, Any]:
    place: Any = tree
    for key in target.split("."):
        if not isinstance(place, Mapping) or key not in place:
            known = place if isinstance(place, Mapping) else ()
            raise LookupError(f"{where}: there is no section {target!r}; {nearest(key, known)}")
        place = place[key]
    if not isinstance(place, Mapping):
        raise ValueError(f"{where}: {target} is no section, but {place!r}")
    return place
