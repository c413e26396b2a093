"""Checks of plain arguments that many constructors share."""

from __future__ import annotations

import math
from typing import Any

from raynas.core.errors import InvalidSpace
from raynas.core.plain_values import plain_value


def whole(
    where: str,
    name: str,
    value: Any,
    least: int | None = None,
    most: int | None = None,
    hint: str = "",
) -> int:
    """Return ``value`` if it is a whole number in a range, NumPy's as Python's, no boolean.

    >>> whole("Repeat 'stage'", "depth", 3, 0)
    3
    >>> whole("Repeat", "depth", 2.0, 0)
    Traceback (most recent call last):
        ...
    raynas.core.errors.InvalidSpace: Repeat: depth is 2.0, expected a whole number of at least 0

    Args:
        where: what the argument is of, with its label.
        name: of the argument.
        value: what came.
        least: smallest allowed; None if there is none.
        most: largest allowed, likewise.
        hint: what else may be given.

    Raises:
        InvalidSpace: it is none.
    """
    value = plain_value(value)
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    if type(value) is int and low <= value <= high:
        return value
    bounds = "" if least is None else f" of at least {least}"
    bounds = bounds if most is None else f" from {least} to {most}"
    told = f"{where}: {name} is {value!r}, expected a whole number{bounds}"
    raise InvalidSpace(f"{told}, {hint}" if hint else told)
