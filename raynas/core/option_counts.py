"""How often architectures take the same options, wherever these stand.

Shapes: A, B, N rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raynas.core.codes import Codes, Rows
from raynas.core.decision import Choice

COUNTS = 32  # that are compared; of a space with more, those of the largest groups


class OptionCounts:
    """The share of choices that agree once they may change places.

    Choices with the same options are a group. Of each option the smaller of both counts is common;
    all in common are divided by the number of choices in groups (Swain and Ballard, 1991, "Color
    indexing": histogram intersection). Not being reached is an option of its own. Subsets, and
    choices whose options no other one has, are not looked at: False if nothing is left.

    Args:
        codes: of the space.
    """

    def __init__(self, codes: Codes) -> None:
        alike: dict[tuple[object, ...], list[int]] = {}
        for label, decision in codes.space.decisions.items():
            if isinstance(decision, Choice) and len(decision.options) > 1:
                alike.setdefault(decision.options, []).append(codes.columns[label].start)
        self._groups: list[tuple[list[int], range]] = []
        counted = 0
        for options, columns in sorted(alike.items(), key=lambda group: -len(group[1])):
            if len(columns) > 1 and counted + len(options) + 1 <= COUNTS:
                self._groups.append((columns, range(-1, len(options))))
                counted += len(options) + 1
        self._choices = sum(len(columns) for columns, _ in self._groups)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def of(self, rows: Rows) -> NDArray[np.float32]:
        """Return how often every option of every group is taken, shape (options of groups, N)."""
        groups = ((np.ascontiguousarray(rows[:, own]), values) for own, values in self._groups)
        return np.array(
            [np.count_nonzero(own == value, axis=1) for own, values in groups for value in values],
            dtype=np.float32,
        )

    def between(self, first: Rows, second: Rows) -> NDArray[np.float64]:
        """Return the shares of all pairs, shape (A, B)."""
        common = np.zeros((len(first), len(second)), dtype=np.float32)
        least = np.empty_like(common)
        for own, other in zip(self.of(first), self.of(second), strict=True):
            if own.any() and other.any():
                common += np.minimum(own[:, None], other, out=least)
        return common.astype(np.float64) / self._choices
