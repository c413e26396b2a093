"""Bounds on models: ``flops < 10 and params in [100, 1000]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raynas.setup.vega.names import looked_up

_BOUND = re.compile(r"\s*(\w+)\s*(<=?|>=?|==?)\s*([^\s\[\]]+)\s*")
_RANGE = re.compile(r"\s*(\w+)\s+in\s*\[\s*([^\s,]+)\s*,\s*([^\s,\]]+)\s*\]\s*")
UNITS: dict[str, tuple[str, float]] = {
    "flops": ("macs", 1e6),
    "params": ("params", 1e3),
    "latency": ("latency_ms", 1.0),
    "host_latency": ("latency_ms", 1.0),
}
UNBOUNDED = {
    "model_valid": "a model that fails is a failed trial here",
    "duration": "stop it by trials",
}
EXPECTED = "expected such as 'flops < 10 and params in [100, 1000]'"


@dataclass(frozen=True)
class Quota:
    """Bounds as a search takes them, and what is to be said of them."""

    constraints: list[str]
    notes: list[str]


def read_quota(given: Any, where: str) -> Quota:
    """Return the bounds of a quota: a text, or ``restrict`` with the largest values.

    Args:
        given: as the file has it; None is no bound.
        where: it stands, by key path.

    Raises:
        ValueError: it is neither, or a bound cannot be read.
        LookupError: what is bounded is not known.
    """
    if given is None:
        return Quota([], [])
    parts = _of_restrictions(given, where) if isinstance(given, Mapping) else _of_text(given, where)
    constraints: list[str] = []
    notes: list[str] = []
    for name, low, high in parts:
        if name in UNBOUNDED:
            notes.append(f"ignored: {where}: {name}: {UNBOUNDED[name]}")
            continue
        metric, unit = looked_up(UNITS, name, "quantity", where)
        constraints += [] if low is None else [f"{metric}>{low * unit:.15g}"]
        constraints += [] if high is None else [f"{metric}<{high * unit:.15g}"]
    if constraints:
        notes.append(
            f"differs: {where}: read as {', '.join(constraints)}: flops there are taken for "
            "millions of multiply-accumulates, params for thousands, latency for milliseconds"
        )
    return Quota(constraints, notes)


def _of_text(given: Any, where: str) -> list[tuple[str, float | None, float | None]]:
    if not isinstance(given, str):
        raise ValueError(f"{where}: {EXPECTED}, got {given!r}")
    return [_part(part, where) for part in re.split(r"\s+and\s+", given.strip())]


def _part(part: str, where: str) -> tuple[str, float | None, float | None]:
    if match := _RANGE.fullmatch(part):
        return match[1], _number(match[2], where), _number(match[3], where)
    if match := _BOUND.fullmatch(part):
        number = _number(match[3], where)
        if match[2].startswith("="):
            return match[1], number, number
        return (match[1], None, number) if match[2][0] == "<" else (match[1], number, None)
    if part.strip() in UNBOUNDED:
        return part.strip(), None, None
    raise ValueError(f"{where}: {EXPECTED}, got {part!r}")


def _of_restrictions(
    given: Mapping[str, Any], where: str
) -> list[tuple[str, float | None, float | None]]:
    restricted = given.get("restrict")
    if not isinstance(restricted, Mapping) or given.keys() - {"restrict", "filter_rules"}:
        raise ValueError(f"{where}: {EXPECTED}, or restrict: with largest values, got {given!r}")
    return [
        (name, None, None if name in UNBOUNDED else _number(value, f"{where}.restrict.{name}"))
        for name, value in restricted.items()
    ]


def _number(text: Any, where: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected a number, got {text!r}; {EXPECTED}") from None
