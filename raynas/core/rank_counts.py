"""How many ranks may train together: one number, or all from one to another."""

from __future__ import annotations

import re
from collections.abc import Sequence

_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


def count_or_range(given: object) -> int | tuple[int, int]:
    """Return a number of ranks, or the least and the greatest.

    Args:
        given: a whole number, two, or either as a text.

    Raises:
        ValueError: it is neither, or not positive, or the first number is the greater one.

    >>> count_or_range(2), count_or_range([1, 4]), count_or_range("1-4"), count_or_range((3, 3))
    (2, (1, 4), (1, 4), 3)
    """
    numbers = _numbers(given)
    if len(numbers) not in (1, 2) or min(numbers) < 1 or numbers[0] > numbers[-1]:
        raise ValueError("expected a positive whole number, or two such as 1-4, the smaller first")
    return numbers[0] if numbers[0] == numbers[-1] else (numbers[0], numbers[-1])


def _numbers(given: object) -> list[int]:
    """Return the whole numbers that were given; none if it is anything else."""
    if isinstance(given, str):
        parts = _RANGE.fullmatch(given)
        return [int(part) for part in parts.groups() if part] if parts else []
    numbers = list(given) if isinstance(given, Sequence) else [given]
    whole = [int(n) for n in numbers if isinstance(n, int | float) and float(n).is_integer()]
    return whole if len(whole) == len(numbers) else []


def equal_shares(size: int, least: int, greatest: int) -> list[int]:
    """Return the numbers of ranks, within these bounds, that a batch divides by.

    Args:
        size: of the batch.
        least: number of ranks.
        greatest: number of ranks.

    Raises:
        ValueError: it divides by none of them.

    >>> equal_shares(64, 1, 4)
    [1, 2, 4]
    """
    numbers = [ranks for ranks in range(least, greatest + 1) if size % ranks == 0]
    if not numbers:
        many = f"{least}" if least == greatest else f"any of {least} to {greatest}"
        raise ValueError(f"batch_size {size} does not divide by {many} training workers")
    return numbers
