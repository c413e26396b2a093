"""Shares of decisions in which architectures agree, of many pairs at once.

Shapes: A, B, N rows, C candidates, K columns, E changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import lcm
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from raynas.core.candidates import Candidates
from raynas.core.codes import UNREACHED, Codes, Rows
from raynas.core.decision import Choice

Matrix = NDArray[np.float64]
Matches: TypeAlias = NDArray[np.float32]  # float64 where whole numbers are larger

SHALLOW = 256  # values of all columns up to which candidates are compared as a whole
FEW = 64  # changed columns up to which a candidate is compared by these alone
DENSE = 16  # values per column up to which one product of vectors of ones is faster
BLOCK = 2**22  # entries of such vectors at once
EXACT = 2**24  # whole numbers that a float32 holds
MATCH = 2**24  # what a match counts at most; where more were divisible, how near is rounded down


class EqualDecisions:
    """The share of equal decisions.

    Not being reached is a value of its own; two subsets are as equal as the share of options that
    both have or both lack. Numbers in order may be near: half of a match is that they are equal,
    half is how near their places are, the ends being 0. Matches are counted in whole numbers, so
    that a share does not depend on the order of a sum.

    Args:
        codes: of the space.
        ordered: whether choices of three and more numbers, in ascending or descending order, count
            as near.

    Attributes:
        codes: of the space.
        weights: of a match in each column, whole numbers, shape (K,).
        match: what two equal values count, times the weight.
        total: of all of them.
        steps: from the first to the last value of columns whose values may be near, 0 of others.
        dense: whether columns have few values.
    """

    def __init__(self, codes: Codes, *, ordered: bool = False) -> None:
        self.codes = codes
        self.steps = np.zeros(len(codes.sizes), dtype=np.int64)
        for label, decision in codes.space.decisions.items():
            if ordered and isinstance(decision, Choice) and _in_order(decision.options):
                self.steps[codes.columns[label]] = len(decision.options) - 1
        near = set(self.steps[self.steps > 0].tolist())
        self.match = min(2 * lcm(*near), MATCH) if near else 1
        widths = [span.stop - span.start for span in codes.columns.values()]
        whole = lcm(*widths)
        self.total = float(max(len(widths) * whole * self.match, 1))
        kind = np.float32 if self.total < EXACT else np.float64
        weights = [whole / width for width in widths for _ in range(width)]
        self.weights: Matches = np.array(weights, dtype=kind)
        self.dense = codes.values <= DENSE * len(codes.sizes)

    def between(self, first: Rows, second: Rows) -> Matrix:
        """Return the shares of all pairs, shape (A, B)."""
        return self.to(second).of_rows(first)

    def to(self, points: Rows) -> SharesTo:
        """Return what compares others with points, shape (N, K)."""
        return SharesTo(self, points)

    def ones(self, rows: Rows, weights: Matches | float) -> Matches:
        """Return a weight for every value that is taken, shape (A, values of all columns)."""
        vectors: Matches = np.zeros((len(rows), self.codes.values), dtype=self.weights.dtype)
        vectors[np.arange(len(rows))[:, None], self.codes.places(rows)] = weights
        return vectors

    def matches(self, points: Rows) -> Matches:
        """Return how much every value matches what is taken, shape (N, values of all columns)."""
        vectors = self.ones(points, self.match)
        for steps in set(self.steps[self.steps > 0].tolist()):
            columns = np.flatnonzero(self.steps == steps)
            values = np.arange(steps + 1)
            table = self.alike(steps, np.arange(UNREACHED, steps + 1)[:, None], values)
            alike = table.astype(vectors.dtype)[points[:, columns] - UNREACHED]
            vectors[:, self.codes.starts[columns, None] + values] = alike
        return vectors

    def alike(
        self, steps: int | NDArray[np.int64], first: NDArray[Any], second: NDArray[Any]
    ) -> NDArray[Any]:
        """Return how much values match, whole numbers; ``steps`` is that of their columns."""
        equal = np.where(first == second, self.match, 0)
        reached = (first != UNREACHED) & (second != UNREACHED) & (steps > 0)
        near = self.match // 2 * (steps - np.abs(first - second)) // np.maximum(steps, 1)
        return np.where(reached, equal // 2 + near, equal)


def _in_order(options: Sequence[object]) -> bool:
    if len(options) < 3 or not all(type(option) in (int, float) for option in options):
        return False
    rising = all(a < b for a, b in pairwise(options))  # type: ignore[operator]
    return rising or all(a > b for a, b in pairwise(options))  # type: ignore[operator]


class SharesTo:
    """Shares of equal decisions with some points.

    Args:
        equal: says what counts.
        points: shape (N, K).
    """

    def __init__(self, equal: EqualDecisions, points: Rows) -> None:
        self._equal, self._codes, self._weights = equal, equal.codes, equal.weights
        self._points = points
        # by value and point how much it matches; of many values, by column and point what is taken
        self._taken: NDArray[Any] = (equal.matches(points) if equal.dense else points).T.copy()

    def of_rows(self, rows: Rows) -> Matrix:
        """Return the shares of rows and points, shape (A, N)."""
        return self._shares(self._matches(rows))

    def of(self, candidates: Candidates) -> Matrix:
        """Return the shares of candidates and points, shape (C, N).

        In a deep space a candidate's matches are its centre's but for what was changed.
        """
        if self._codes.values <= SHALLOW:
            return self.of_rows(candidates.rows)
        changed_CK = candidates.rows != candidates.centres[candidates.owners]
        near = (candidates.owners >= 0) & (changed_CK.sum(1) <= FEW)
        matches = np.empty((len(candidates), len(self._points)), dtype=self._weights.dtype)
        matches[~near] = self._matches(candidates.rows[~near])
        matches[near] = self._matches(candidates.centres)[candidates.owners[near]]
        at, columns = np.nonzero(changed_CK & near[:, None])
        place = np.arange(len(at)) - np.searchsorted(at, at)  # among a candidate's changes
        for number in range(place.max(initial=-1) + 1):
            mine = np.flatnonzero(place == number)
            rows_E, columns_E = at[mine], columns[mine]
            before_E = candidates.centres[candidates.owners[rows_E], columns_E]
            after_E = candidates.rows[rows_E, columns_E]
            matches[rows_E] += self._matches_in(columns_E, after_E)
            matches[rows_E] -= self._matches_in(columns_E, before_E)
        return self._shares(matches)

    def gains(self, weights_AN: Matrix) -> Matrix:
        """Return what each value of each column adds to weighted sums of shares, shape (A, values).

        Args:
            weights_AN: of the shares.
        """
        values, places = self._codes.values, self._codes.places(self._points)
        if self._equal.dense:
            of_values = np.zeros(values)
            of_values[places] = self._weights  # what no point takes adds nothing
            for column in np.flatnonzero(self._equal.steps):
                start = self._codes.starts[column]
                of_values[start : start + self._equal.steps[column] + 1] = self._weights[column]
            gained = weights_AN @ self._taken.T.astype(np.float64) * of_values
        else:
            each_ANK = weights_AN[:, :, None] * (self._weights * self._equal.match)  # equal ones
            flat = places.ravel()
            gained = np.array([np.bincount(flat, each.ravel(), values) for each in each_ANK])
        return self._shares(gained)

    def _shares(self, matches: NDArray[Any]) -> Matrix:
        shares: Matrix = matches.astype(np.float64) / self._equal.total
        return shares

    def _matches(self, rows: Rows) -> Matches:
        """Return the weighted numbers of equal columns of all pairs."""
        found: Matches = np.zeros((len(rows), len(self._points)), dtype=self._weights.dtype)
        if not self._equal.dense:
            for column, weight in enumerate(self._weights):
                steps, own = self._equal.steps[column], rows[:, column, None]
                if steps:
                    found += weight * self._equal.alike(steps, own, self._taken[column])
                else:
                    found += weight * self._equal.match * (own == self._taken[column])
            return found
        step = max(1, BLOCK // max(1, self._codes.values))
        for at in range(0, len(rows), step):
            found[at : at + step] = (
                self._equal.ones(rows[at : at + step], self._weights) @ self._taken
            )
        return found

    def _matches_in(self, columns_E: NDArray[np.intp], values_E: Rows) -> Matches:
        """Return the weights of single columns where points take a value there, shape (E, N)."""
        found: Matches = (
            self._taken[self._codes.starts[columns_E] + values_E]
            if self._equal.dense
            else self._equal.alike(
                self._equal.steps[columns_E, None], self._taken[columns_E], values_E[:, None]
            )
        )
        found = self._weights[columns_E, None] * found
        return found
