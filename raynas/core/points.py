"""Scored points that a model is fitted to: those of a run, and of an earlier one before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raynas.core.codes import Codes, Rows

Scores = tuple[float, ...]
Numbers = NDArray[np.intp]


class Points:
    """Rows and their scores, by number; those of an earlier run come first.

    Where this run scores a point of the earlier one as well, its own score replaces the other. The
    median of the differences moves all earlier scores to the scale of this run, which may have
    another supernet or another evaluator. A point that this run scores again is one point, of the
    mean of its scores.

    Shapes: N points, K columns, M scores each.

    Args:
        codes: of the space.
        earlier: rows and scores of an earlier run, each row once.

    Attributes:
        earlier: how many points are of the earlier run.
        repeats: all scores of points that this run has scored several times, by number.
    """

    def __init__(self, codes: Codes, earlier: Sequence[tuple[Rows, Scores]] = ()) -> None:
        self._codes = codes
        self._rows = np.zeros((0, len(codes.sizes)), dtype=np.int32)
        self._scores = np.zeros((0, 0))
        self._count = 0
        for row, scores in earlier:
            self._append(row, scores)
        self.earlier = len(earlier)
        self._numbers = {key: number for number, key in enumerate(codes.keys(self.rows))}
        self._replaced = np.zeros(len(earlier), dtype=bool)
        self._moves: list[NDArray[np.float64]] = []
        self.repeats: dict[int, list[Scores]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Rows:
        """All rows, shape (N, K)."""
        return self._rows[: self._count]

    def _append(self, row: Rows, scores: Scores) -> None:
        if self._count == len(self._rows):  # twice as many: a copy of all is seldom
            longer = max(16, 2 * self._count)
            self._rows = np.resize(self._rows, (longer, len(row)))
            self._scores = np.resize(self._scores, (longer, len(scores)))
        self._rows[self._count], self._scores[self._count] = row, scores
        self._count += 1

    def add(self, row: Rows, scores: Scores) -> int:
        """Keep what this run has scored, and return the number of the point."""
        key = self._codes.keys(row[None])[0]
        before = self._numbers.get(key, len(self))
        if self.earlier <= before < len(self):
            self.repeats.setdefault(before, [tuple(self._scores[before])]).append(scores)
            self._scores[before] = np.mean(self.repeats[before], axis=0)
            return before
        self._numbers[key] = number = len(self)
        if before < self.earlier:
            self._moves.append(np.subtract(scores, self._scores[before]))
            self._replaced[before] = True
        self._append(row, scores)
        return number

    def measurements(self, numbers: Sequence[int] | Numbers) -> NDArray[np.intp]:
        """Return how often points were scored, shape (N,)."""
        return np.array([len(self.repeats.get(int(n), ())) or 1 for n in numbers], dtype=np.intp)

    def valid(self, numbers: Sequence[int]) -> Numbers:
        """Return the points without those that this run has scored anew."""
        found = np.array(numbers, dtype=np.intp)
        if not self._moves:
            return found
        return found[self.own(found) | ~self._replaced[np.minimum(found, self.earlier - 1)]]

    def scores(
        self, numbers: Sequence[int] | Numbers, *, moved: bool = True
    ) -> NDArray[np.float64]:
        """Return the scores of points, shape (N, M).

        Args:
            numbers: of the points.
            moved: whether earlier ones are on the scale of this run, or of their own.
        """
        scores: NDArray[np.float64] = self._scores[np.array(numbers, dtype=np.intp)]
        if self._moves and moved:
            scores[~self.own(numbers)] += np.median(self._moves, axis=0)
        return scores

    def own(self, numbers: Sequence[int] | Numbers) -> NDArray[np.bool_]:
        """Return which points are of this run, shape (N,)."""
        return np.array(numbers) >= self.earlier

    def best_first(self, numbers: Sequence[int]) -> list[int]:
        """Return the points by their first score; of equal ones the earlier first."""
        order = np.argsort(-self.scores(numbers, moved=False)[:, 0], kind="stable")
        return [numbers[at] for at in order]
