"""What is told of an architecture that somebody else has measured, and how lines say it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import nearest
from raynas.core.fixed import read_arch

PROPOSER = "external"  # algorithm of what was never asked, unless it is said
SAID = ("trial", "arch", "metrics", "error", "duration_s", "algo", "parent", "predicted")
PASSED = ("arch_key", "costs", "again")  # of ``ask``, which a loop may hand through


@dataclass(frozen=True, kw_only=True)
class Told:
    """One result, or with neither metrics nor error a proposal that is to be evaluated.

    Attributes:
        trial: number of what was asked; None where only the architecture is said.
        arch: the architecture; None where only the trial is said.
        metrics: what was measured.
        error: why nothing was.
        duration_s: seconds that it took.
        algo: who has proposed it, if nobody has asked it.
        parent: key of the architecture that it was changed from, likewise.
        predicted: the objective that was expected, likewise.
        where: what a message begins with.
    """

    trial: int | None = None
    arch: Arch | None = None
    metrics: Mapping[str, Any] | None = None
    error: str | None = None
    duration_s: float = 0.0
    algo: str = PROPOSER
    parent: str | None = None
    predicted: float | None = None
    where: str = ""

    @property
    def measured(self) -> bool:
        """Whether there is a result."""
        return self.metrics is not None or self.error is not None


def read_lines(lines: Iterable[str], space: ArchSpace) -> list[Told]:
    """Read JSON lines; empty ones are left out.

    Args:
        lines: such as ``{"trial": 3, "metrics": {"accuracy": 0.9}}``.
        space: of the architectures.

    Raises:
        ValueError: a line is wrong; the message names its number, from 1.
    """
    return [
        read_line(text, space, f"line {number}: ")
        for number, text in enumerate(lines, 1)
        if text.strip()
    ]


def read_line(text: str, space: ArchSpace, where: str = "") -> Told:
    """Read one line of JSON (see ``read_lines``)."""
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}expected a JSON object, got {_short(text)} ({error})") from None
    if not isinstance(given, dict):
        raise ValueError(f"{where}expected a JSON object, got {_short(text)}")
    for key in given:
        if key not in (*SAID, *PASSED):
            raise ValueError(f"{where}no key is named {key!r}; {nearest(key, SAID)}")
    return told_of({key: given[key] for key in given if key in SAID}, space, where)


def told_of(given: Mapping[str, Any], space: ArchSpace, where: str = "") -> Told:
    """Return what a mapping of ``SAID`` says, checked.

    Raises:
        ValueError: a value is of another kind, or it does not say what it is of.
    """
    if "trial" not in given and "arch" not in given:
        raise ValueError(f"{where}expected 'trial' or 'arch', which say what it is told of")
    if "metrics" in given and "error" in given:
        raise ValueError(f"{where}expected 'metrics' or 'error', got both")
    checked: dict[str, Any] = {}
    for key, value in given.items():
        kinds, named = _KINDS[key]
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"{where}{key!r} is {named}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where}{key!r} is {named}, got {value!r}")
        checked[key] = value
    if checked.get("duration_s", 0.0) < 0:
        raise ValueError(f"{where}'duration_s' is a number of seconds, got {given['duration_s']!r}")
    if "arch" in checked:
        try:
            checked["arch"] = read_arch(space, checked["arch"])
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None
    return Told(**checked, where=where)


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "trial": ((int,), "a trial's number"),
    "arch": ((Mapping,), "an object from label to choice"),
    "metrics": ((Mapping,), "an object from metric to number"),
    "error": ((str,), "a text"),
    "duration_s": ((int, float), "a number of seconds"),
    "algo": ((str,), "a text"),
    "parent": ((str,), "a text"),
    "predicted": ((int, float), "a number"),
}


def _short(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")
