"""Search spaces as JSON, for the run folder."""

from __future__ import annotations

from typing import Any

from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset, Subspace
from raynas.core.errors import InvalidSpace
from raynas.core.plain_values import plain_value


def to_plain(space: Subspace) -> list[dict[str, Any]]:
    """Return a space as lists and dicts that JSON can hold."""
    return [_plain(decision) for decision in space.choices]


def from_plain(plain: list[dict[str, Any]]) -> ArchSpace:
    """Read what ``to_plain`` wrote.

    Raises:
        InvalidSpace: an entry lacks a key or has one too many.
    """
    return ArchSpace(tuple(_decision(entry) for entry in plain))


def _plain(decision: Decision) -> dict[str, Any]:
    entry: dict[str, Any] = {"label": decision.label, "options": list(decision.options)}
    if isinstance(decision, Subset):
        entry["pick"] = decision.k
    if decision.opens:
        places = enumerate(decision.options)
        entry["opens"] = {
            str(i): to_plain(decision.opens[o]) for i, o in places if o in decision.opens
        }
    return entry


def _decision(entry: dict[str, Any]) -> Decision:
    if not {"label", "options"} <= set(entry) <= {"label", "options", "pick", "opens"}:
        raise InvalidSpace(f"a decision has label, options, pick and opens, got {sorted(entry)}")
    options = plain_value(entry["options"])
    opens = {options[int(i)]: from_plain(inner) for i, inner in entry.get("opens", {}).items()}
    if "pick" in entry:
        return Subset(entry["label"], options, entry["pick"], opens)
    return Choice(entry["label"], options, opens)
