"""Texts in CSV files: none that a spreadsheet runs as a formula, each read back as it was."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import TypeVar

Cell = TypeVar("Cell")

# what formulas begin with: OWASP, "CSV Injection", with the wide signs of Japanese keyboards
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def inert(cell: Cell) -> Cell:
    """Return a text with an apostrophe in front where a spreadsheet would run it; others as is.

    >>> [inert(cell) for cell in ("=A1", "-2+3", "-5", "'@x", "plain", -5.0)]
    ["'=A1", "'-2+3", '-5', "''@x", 'plain', -5.0]
    """
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"  # type: ignore[return-value]
    return cell


def as_written(cell: Cell) -> Cell:
    """Return the text of which ``inert`` made a cell.

    >>> [as_written(cell) for cell in ("'=A1", "-5", "''@x", "'quoted'", None)]
    ['=A1', '-5', "'@x", "'quoted'", None]
    """
    if isinstance(cell, str) and cell.startswith("'") and inert(cell[1:]) == cell:
        return cell[1:]  # type: ignore[return-value]
    return cell


def quoting(cells: Iterable[object]) -> int:
    r"""Return how ``csv`` is to quote: all texts where a bare one would end its row for some.

    >>> quoting(["a", 1]) == csv.QUOTE_MINIMAL, quoting(["a\rb"]) == csv.QUOTE_NONNUMERIC
    (True, True)
    """
    returns = any(isinstance(cell, str) and "\r" in cell for cell in cells)
    return csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
