"""The best of all combinations of block variants, by integer programming.

After Puzzle (Bercovich et al., 2024, arXiv:2411.19146): one variant for each block, the sum of
their scores as large as it can be, costs within bounds. Differs: costs of two variants need not add
up, and what is no sum at all, as a peak, is cut off where a solution breaks its bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from raynas.core.blocks import Pick
from raynas.supernet.block_amounts import Amounts, Numbers
from raynas.supernet.block_peaks import Cut, PeakBound, cut_of

SLACK = 1e-7  # of a bound, which whoever asks checks exactly
SOLVED = 1000  # programs for one answer, at most
Pair = tuple[int, int]
Ends = tuple[float, float]
Row = tuple[list[int], list[float], Ends]  # columns, their weights, and within what the sum lies


class BlockProgram:
    """Picks one variant for each block.

    Sums that differ by less than a billionth of the range of scores count as equal.

    Args:
        scores: for each block, by variant, shape (variants,), to be maximised; nan is never picked.
        amounts: that are bounded.
        peaks: bounds on what is no sum; what breaks them is told them, and cut off.
    """

    def __init__(
        self,
        scores: Sequence[Numbers],
        amounts: Sequence[Amounts] = (),
        peaks: Sequence[PeakBound] = (),
    ) -> None:
        self._sizes, self._peaks = [len(score) for score in scores], tuple(peaks)
        self._starts = np.cumsum([0, *self._sizes])
        joined = np.concatenate(scores) if len(scores) else np.zeros(0)
        self._allowed = np.isfinite(joined)
        gains = np.where(self._allowed, joined, 0.0)
        spread = np.ptp(gains[self._allowed]) if self._allowed.any() else 0.0
        self._pairs = self._placed(dict.fromkeys(pair for one in amounts for pair in one.pairs))
        # the solver stops at gaps of 1e-6 in its own unit
        self._costs = np.zeros(self._width)
        self._costs[: len(gains)] = -gains * (1e3 / spread if spread else 1.0)
        self._rows = [self._one_of(at) for at in range(len(self._sizes))]
        for pair, first in self._pairs.items():
            self._rows += self._products(pair, first)
        self._bounds = [self._bounded(one) for one in amounts]

    def best(self, cuts: Sequence[Pick] = ()) -> Pick | None:
        """Return the combination of the largest sum that is none of ``cuts``; None if none is left.

        Bounds on sums may be exceeded by a ten-millionth of themselves.

        Raises:
            RuntimeError: the solver gave up.
        """
        if not self._sizes:
            return None if () in cuts else ()
        rows = [*self._rows, *self._bounds, *(self._cut(cut_of(pick)) for pick in cuts)]
        for _ in range(SOLVED):
            peaks = [self._cut(cut) for peak in self._peaks for cut in peak.cuts]
            pick = self._solved(self._costs, [*rows, *peaks])
            if pick is None or not [peak for peak in self._peaks if peak.cut(pick)]:
                return pick
        raise RuntimeError(
            f"{SOLVED} integer programs in a row broke {self._peaks[0].constraint}: bound another "
            "cost"
        )

    def extreme(self, amounts: Amounts, *, largest: bool) -> Pick:
        """Return the combination that has least, or most, of an amount, whatever the bounds.

        Args:
            amounts: one of the program's.
            largest: whether most.
        """
        goal, (columns, weights, _) = np.zeros(self._width), self._bounded(amounts)
        goal[columns] = np.array(weights) * (-1.0 if largest else 1.0)
        pick = self._solved(goal, self._rows)
        assert pick is not None, "each block has a variant"
        return pick

    @property
    def _width(self) -> int:
        pairs = sum(self._sizes[a] * self._sizes[b] for a, b in self._pairs)
        return int(self._starts[-1]) + pairs

    def _placed(self, pairs: Iterable[Pair]) -> dict[Pair, int]:
        """Return by pair of blocks the first column of the products of their variants."""
        placed, first = {}, int(self._starts[-1])
        for a, b in pairs:
            placed[a, b] = first
            first += self._sizes[a] * self._sizes[b]
        return placed

    def _one_of(self, at: int) -> Row:
        columns = list(range(self._starts[at], self._starts[at + 1]))
        return columns, [1.0] * len(columns), (1.0, 1.0)

    def _products(self, pair: Pair, first: int) -> list[Row]:
        """Return that products of two blocks' variants add up to these variants."""
        a, b = pair
        table = first + np.arange(self._sizes[a] * self._sizes[b]).reshape(self._sizes[a], -1)
        sums = [(self._starts[a] + i, row) for i, row in enumerate(table)]
        sums += [(self._starts[b] + j, column) for j, column in enumerate(table.T)]
        return [
            ([int(one), *map(int, some)], [-1.0] + [1.0] * len(some), (0.0, 0.0))
            for one, some in sums
        ]

    def _bounded(self, amounts: Amounts) -> Row:
        columns, weights = list(range(self._starts[-1])), list(np.concatenate(amounts.added))
        for pair, table in amounts.pairs.items():
            columns += range(self._pairs[pair], self._pairs[pair] + table.size)
            weights += list(table.ravel())
        unit, bound, ends = max(np.abs(weights).max(), 1e-300), amounts.constraint, list[float]()
        for end, sign in ((bound.low, -1), (bound.high, 1)):
            if end is None:
                ends.append(sign * np.inf)
            else:
                ends.append((end - amounts.parent + sign * SLACK * abs(end)) / unit)
        return columns, [weight / unit for weight in weights], (ends[0], ends[1])

    def _solved(self, goal: Numbers, rows: Sequence[Row]) -> Pick | None:
        from scipy.optimize import Bounds, LinearConstraint, milp

        first = len(self._allowed)
        highest, whole = np.ones(len(goal)), np.zeros(len(goal))
        highest[:first], whole[:first] = self._allowed, 1
        found = milp(
            goal,
            integrality=whole,
            bounds=Bounds(0, highest),
            constraints=LinearConstraint(*self._matrix(rows)),
            options={"mip_rel_gap": 0.0},
        )
        if found.status == 2:  # infeasible
            return None
        if found.x is None or found.status != 0:
            raise RuntimeError(f"scipy.optimize.milp: {found.message}")
        taken = (found.x[a:b] for a, b in zip(self._starts, self._starts[1:], strict=False))
        return tuple(int(np.argmax(part)) for part in taken)

    def _cut(self, cut: Cut) -> Row:
        columns = [int(self._starts[at]) + number for at, numbers in cut for number in numbers]
        return columns, [1.0] * len(columns), (-np.inf, len(cut) - 1.0)

    def _matrix(self, rows: Sequence[Row]) -> tuple[Any, list[float], list[float]]:
        from scipy.sparse import csr_array

        lengths = [len(columns) for columns, _, _ in rows]
        at = np.repeat(np.arange(len(rows)), lengths)
        columns = np.concatenate([np.array(row[0], dtype=np.intp) for row in rows])
        weights = np.concatenate([np.array(row[1], dtype=np.float64) for row in rows])
        matrix = csr_array((weights, (at, columns)), shape=(len(rows), self._width))
        return matrix, [ends[0] for _, _, ends in rows], [ends[1] for _, _, ends in rows]
