"""Options of decisions as text, and their order."""

from __future__ import annotations

import re
from typing import Any

from raynas.core.arch import Atom, Value


def atoms(value: Value, *, single: bool = False) -> tuple[Atom, ...]:
    """Return the options that a value stands for: one, or those of a subset.

    Args:
        value: at a decision.
        single: whether the decision picks one option, so that a tuple is one.
    """
    return value if isinstance(value, tuple) and not single else (value,)


def natural(option: Any) -> tuple[int, float, list[tuple[int, str]]]:
    """Return a key that sorts numbers by size, before text, and ``block10`` behind ``block2``.

    None and lists come last.
    """
    if isinstance(option, int | float):
        return 0, float(option), []
    parts = re.findall(r"(\d{1,18})|(\D+)", option if isinstance(option, str) else str(option))
    order = [(int(digits or -1), text) for digits, text in parts]
    return 1 if isinstance(option, str) else 2, 0.0, order


def shown(value: Any, *, single: bool = False) -> str:
    """Return a choice as text; the members of a subset are joined.

    >>> shown(3), shown(("conv", "skip")), shown(()), shown((3, 5), single=True)
    ('3', 'conv + skip', 'none', '(3, 5)')

    Args:
        value: at a decision.
        single: whether the decision picks one option, so that a tuple is one.
    """
    return " + ".join(map(str, atoms(value, single=single))) or "none"
