"""A column of numbers as people read it: one unit, and as many decimals in every row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

UNITS = ((1e9, " G"), (1e6, " M"), (1e3, " k"))
DIGITS, MOST_DECIMALS, PLAIN_BELOW = 4, 6, 1e5
NONE = "-"


def column_texts(values: Sequence[Any], name: str = "") -> list[str]:
    """Return a column's numbers as texts of one unit with equally many decimals.

    Text stays as it is; what is missing is a dash.

    >>> column_texts([0.5, 0.98765, None], "accuracy"), column_texts([1_155_520.0, 97_785.0])
    (['50.00 %', '98.77 %', '-'], ['1.156 M', '0.098 M'])
    >>> column_texts([2.25, 0.0412], "loss"), column_texts([3, 120]), column_texts(["good"])
    (['2.2500', '0.0412'], ['3', '120'], ['good'])

    Args:
        values: of the column.
        name: of the metric; accuracies within 0 to 1 are told in percent.
    """
    numbers = [float(v) for v in values if _is_number(v)]
    factor, unit, decimals = _style(numbers, name)
    return [
        f"{value * factor:.{decimals}f}{unit}" if _is_number(value) else _other(value)
        for value in values
    ]


def _style(numbers: Sequence[float], name: str) -> tuple[float, str, int]:
    """Return factor, unit and decimals."""
    largest = max(map(abs, numbers), default=0.0)
    if name.endswith("accuracy") and all(0 <= x <= 1 for x in numbers):
        return 100.0, " %", 2
    if largest < PLAIN_BELOW and all(x.is_integer() for x in numbers):
        return 1.0, "", 0
    limit, unit = next(((limit, u) for limit, u in UNITS if largest >= limit), (1.0, ""))
    smallest = min((abs(x) for x in numbers if x), default=1.0) / limit
    decimals = DIGITS - 1 - _magnitude(largest / limit)
    if not unit:  # what is far smaller than the rest keeps two digits and more
        decimals = max(decimals, 2 - _magnitude(smallest))
    return 1 / limit, unit, max(0, min(MOST_DECIMALS, decimals))


def _magnitude(value: float) -> int:
    return math.floor(math.log10(value)) if value else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _other(value: Any) -> str:
    return value if isinstance(value, str) else NONE
