"""Shares of decisions in which architectures agree, of many pairs at once.

Shapes: A, B, N rows, C candidates, K columns, E changes.
"""

from __future__ import annotations

from math import lcm
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from raynas.core.candidates import Candidates
from raynas.core.codes import Codes, Rows

Matrix = NDArray[np.float64]
Matches: TypeAlias = NDArray[np.float32]  # float64 where whole numbers are larger

SHALLOW = 256  # values of all columns up to which candidates are compared as a whole
FEW = 8  # changed columns up to which a candidate is compared by these alone
DENSE = 16  # values per column up to which one product of vectors of ones is faster
BLOCK = 2**22  # entries of such vectors at once
EXACT = 2**24  # whole numbers that a float32 holds


class EqualDecisions:
    """The share of equal decisions.

    Not being reached is a value of its own; two subsets are as equal as the share of options that
    both have or both lack. Matches are counted in whole numbers, so that a share does not depend on
    the order of a sum.

    Args:
        codes: of the space.
    """

    def __init__(self, codes: Codes) -> None:
        widths = [span.stop - span.start for span in codes.columns.values()]
        whole = lcm(*widths)
        self._total = float(max(len(widths) * whole, 1))
        kind = np.float32 if self._total < EXACT else np.float64
        weights = [whole / width for width in widths for _ in range(width)]
        self._weights: Matches = np.array(weights, dtype=kind)
        self._starts = np.cumsum([0, *(size + 1 for size in codes.sizes)])
        self._dense = int(self._starts[-1]) <= DENSE * len(codes.sizes)

    def between(self, first: Rows, second: Rows) -> Matrix:
        """Return the shares of all pairs, shape (A, B)."""
        return self._shares(self._matches(first, self._taken(second)))

    def of(self, candidates: Candidates, rows: Rows) -> Matrix:
        """Return the shares of candidates and rows, shape (C, N).

        In a deep space a candidate's matches are its centre's but for what was changed.
        """
        if self._starts[-1] <= SHALLOW:
            return self.between(candidates.rows, rows)
        changed_CK = candidates.rows != candidates.centres[candidates.owners]
        near = (candidates.owners >= 0) & (changed_CK.sum(1) <= FEW)
        taken = self._taken(rows)
        matches = np.empty((len(candidates), len(rows)), dtype=self._weights.dtype)
        matches[~near] = self._matches(candidates.rows[~near], taken)
        matches[near] = self._matches(candidates.centres, taken)[candidates.owners[near]]
        at, columns = np.nonzero(changed_CK & near[:, None])
        place = np.arange(len(at)) - np.searchsorted(at, at)  # among a candidate's changes
        for number in range(place.max(initial=-1) + 1):
            rows_E, columns_E = at[place == number], columns[place == number]
            before_E = candidates.centres[candidates.owners[rows_E], columns_E]
            matches[rows_E] -= self._matches_in(columns_E, before_E, taken)
            matches[rows_E] += self._matches_in(
                columns_E, candidates.rows[rows_E, columns_E], taken
            )
        return self._shares(matches)

    def _shares(self, matches: Matches) -> Matrix:
        return matches.astype(np.float64) / self._total

    def _taken(self, rows: Rows) -> NDArray[Any]:
        """Return by value and row whether it is taken; by column and row what is, of many values.

        Shape (values of all columns, N) or (K, N).
        """
        return self._ones(rows, 1.0).T.copy() if self._dense else rows.T.copy()

    def _ones(self, rows: Rows, weights: Matches | float) -> Matches:
        """Return a weight for every value that is taken, shape (N, values of all columns)."""
        vectors: Matches = np.zeros((len(rows), self._starts[-1]), dtype=self._weights.dtype)
        vectors[np.arange(len(rows))[:, None], rows + 1 + self._starts[:-1]] = weights
        return vectors

    def _matches(self, rows: Rows, taken: NDArray[Any]) -> Matches:
        """Return the weighted numbers of equal columns of all pairs."""
        found: Matches = np.zeros((len(rows), taken.shape[1]), dtype=self._weights.dtype)
        if not self._dense:
            for column, weight in enumerate(self._weights):
                found += weight * (rows[:, column, None] == taken[column])
            return found
        step = max(1, BLOCK // max(1, len(taken)))
        for at in range(0, len(rows), step):
            found[at : at + step] = self._ones(rows[at : at + step], self._weights) @ taken
        return found

    def _matches_in(
        self, columns_E: NDArray[np.intp], values_E: Rows, taken: NDArray[Any]
    ) -> Matches:
        """Return the weights of single columns where rows take a value there, shape (E, N)."""
        weights = self._weights[columns_E, None]
        if not self._dense:
            return weights * (taken[columns_E] == values_E[:, None])
        return weights * taken[self._starts[columns_E] + 1 + values_E]
