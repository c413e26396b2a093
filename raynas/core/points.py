"""Scored points that a model is fitted to: those of a run, and of an earlier one before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raynas.core.codes import Codes, Rows

Scores = tuple[float, ...]


class Points:
    """Rows and their scores, by number; those of an earlier run come first.

    Where this run scores a point of the earlier one as well, its own score replaces the other. The
    median of the differences moves all earlier scores to the scale of this run, which may have
    another supernet or another evaluator.

    Shapes: N points, M scores each.

    Args:
        codes: of the space.
        earlier: rows and scores of an earlier run, each row once.
    """

    def __init__(self, codes: Codes, earlier: Sequence[tuple[Rows, Scores]] = ()) -> None:
        self._codes = codes
        self.rows: list[Rows] = [row for row, _ in earlier]
        self._scores: list[Scores] = [scores for _, scores in earlier]
        self.earlier = len(earlier)
        keys = codes.keys(np.array(self.rows)) if earlier else []
        self._numbers = {key: number for number, key in enumerate(keys)}
        self._moves: list[NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, row: Rows, scores: Scores) -> None:
        """Append a point of this run."""
        before = self._numbers.pop(self._codes.keys(row[None])[0], None)
        if before is not None:
            self._moves.append(np.subtract(scores, self._scores[before]))
        self.rows.append(row)
        self._scores.append(scores)

    def valid(self, numbers: Sequence[int]) -> list[int]:
        """Return the points without those that this run has scored anew."""
        if not self._moves:
            return list(numbers)
        left = set(self._numbers.values())
        return [number for number in numbers if number >= self.earlier or number in left]

    def scores(self, numbers: Sequence[int], *, moved: bool = True) -> NDArray[np.float64]:
        """Return the scores of points, shape (N, M).

        Args:
            numbers: of the points.
            moved: whether earlier ones are on the scale of this run, or of their own.
        """
        scores = np.array([self._scores[number] for number in numbers])
        if self._moves and moved:
            scores[~self.own(numbers)] += np.median(self._moves, axis=0)
        return scores

    def own(self, numbers: Sequence[int]) -> NDArray[np.bool_]:
        """Return which points are of this run, shape (N,)."""
        return np.array(numbers) >= self.earlier

    def best_first(self, numbers: Sequence[int]) -> list[int]:
        """Return the points by their first score; of equal ones the earlier first."""
        order = np.argsort([-self._scores[number][0] for number in numbers], kind="stable")
        return [numbers[at] for at in order]
