"""Shares of decisions in which architectures agree, of many pairs at once.

Shapes: A, B, N rows, C candidates, K columns, E changes.
"""

from __future__ import annotations

from math import lcm

import numpy as np
from numpy.typing import NDArray

from raynas.core.candidates import Candidates
from raynas.core.codes import Codes, Rows

Matrix = NDArray[np.float64]

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
        whole = lcm(*(width for width in widths if width))
        self._total = float(max(len(widths) * whole, 1))
        self._weights = np.array([whole / width for width in widths for _ in range(width)])
        self._starts = np.cumsum([0, *(size + 1 for size in codes.sizes)])

    def between(self, first: Rows, second: Rows) -> Matrix:
        """Return the shares of all pairs, shape (A, B)."""
        return self._matches(first, second) / self._total

    def of(self, candidates: Candidates, rows: Rows) -> Matrix:
        """Return the shares of candidates and rows, shape (C, N).

        A candidate's matches are its centre's but for what was changed.
        """
        changed_CK = candidates.rows != candidates.centres[candidates.owners]
        changes = changed_CK.sum(1)
        near = (candidates.owners >= 0) & (changes > 0) & (changes <= FEW)
        matches = np.empty((len(candidates), len(rows)))
        matches[~near] = self._matches(candidates.rows[~near], rows)
        if near.any():
            owners = candidates.owners[near]
            at, columns = np.nonzero(changed_CK[near])
            before = candidates.centres[owners[at], columns]
            after = candidates.rows[near][at, columns]
            gained_EN = self._gained(rows, columns, before, after)
            first = np.searchsorted(at, np.arange(len(owners)))
            centres = self._matches(candidates.centres, rows)
            matches[near] = centres[owners] + np.add.reduceat(gained_EN, first, axis=0)
        shares: Matrix = matches / self._total
        return shares

    def _gained(self, rows: Rows, columns: NDArray[np.intp], before: Rows, after: Rows) -> Matrix:
        """Return by how much each change of a column raises the matches with rows, (E, N)."""
        values_EN = np.ascontiguousarray(rows.T)[columns]
        gained = (values_EN == after[:, None]).view(np.int8)
        gained -= (values_EN == before[:, None]).view(np.int8)
        weighed: Matrix = gained * self._weights[columns, None]
        return weighed

    def _matches(self, first: Rows, second: Rows) -> Matrix:
        """Return the weighted numbers of equal columns, shape (A, B)."""
        if self._starts[-1] > DENSE * max(first.shape[1], 1):
            found = np.zeros((len(first), len(second)))
            for column, weight in enumerate(self._weights):
                found += weight * (first[:, column, None] == second[:, column])
            return found
        kind = np.float32 if self._total < EXACT else np.float64
        ones = self._ones(second, kind, np.ones(len(self._weights)))
        step = int(max(1, BLOCK // max(1, self._starts[-1])))
        blocks = [
            self._ones(first[at : at + step], kind, self._weights) @ ones.T
            for at in range(0, len(first), step)
        ]
        return np.concatenate(blocks).astype(np.float64) if blocks else np.zeros((0, len(second)))

    def _ones(self, rows: Rows, kind: type, weights: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return a weight for every value that is taken, shape (A, values)."""
        vectors: NDArray[np.float32] = np.zeros((len(rows), int(self._starts[-1])), dtype=kind)
        vectors[np.arange(len(rows))[:, None], rows + 1 + self._starts[:-1]] = weights
        return vectors
