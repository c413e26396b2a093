"""The best of all combinations of block variants, by integer programming.

After Puzzle (Bercovich et al., 2024, arXiv:2411.19146): one variant for each block, the sum of
their scores as large as it can be, sums of their costs within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core.blocks import Pick
from raynas.core.constraints import Constraint

Numbers = NDArray[np.float64]
SLACK = 1e-7  # of a bound, which whoever asks checks exactly


@dataclass(frozen=True)
class Amounts:
    """What of a bounded metric each variant adds to the parent's.

    Attributes:
        constraint: on the metric.
        parent: of the parent.
        added: for each block, by variant, shape (variants,); the first is 0.
    """

    constraint: Constraint
    parent: float
    added: tuple[Numbers, ...]

    def of(self, pick: Pick) -> float:
        """Return the metric of a combination."""
        return self.parent + float(sum(a[n] for a, n in zip(self.added, pick, strict=True)))

    @property
    def least(self) -> float:
        """The smallest that any combination has."""
        return self.parent + float(sum(added.min() for added in self.added))

    @property
    def most(self) -> float:
        """The largest likewise."""
        return self.parent + float(sum(added.max() for added in self.added))


class BlockProgram:
    """Picks one variant for each block.

    Sums that differ by less than a billionth of the range of scores count as equal.

    Args:
        scores: for each block, by variant, shape (variants,), to be maximised; nan is never picked.
        amounts: that are bounded.
    """

    def __init__(self, scores: Sequence[Numbers], amounts: Sequence[Amounts] = ()) -> None:
        self._sizes = [len(score) for score in scores]
        self._starts = np.cumsum([0, *self._sizes])
        joined = np.concatenate(scores) if len(scores) else np.zeros(0)
        self._allowed = np.isfinite(joined)
        gains = np.where(self._allowed, joined, 0.0)
        spread = np.ptp(gains[self._allowed]) if self._allowed.any() else 0.0
        # the solver stops at gaps of 1e-6 in its own unit
        self._costs = -gains * (1e3 / spread if spread else 1.0)
        self._rows = [self._bounded(one) for one in amounts]

    def _bounded(self, amounts: Amounts) -> tuple[Numbers, float, float]:
        row, bound = np.concatenate(amounts.added), amounts.constraint
        unit = max(float(np.abs(row).max()), 1e-300)
        ends = []
        for end, sign in ((bound.low, -1), (bound.high, 1)):
            if end is None:
                ends.append(sign * np.inf)
            else:
                ends.append((end - amounts.parent + sign * SLACK * abs(end)) / unit)
        return row / unit, ends[0], ends[1]

    def best(self, cuts: Sequence[Pick] = ()) -> Pick | None:
        """Return the combination of the largest sum that is none of ``cuts``; None if none is left.

        Bounds may be exceeded by a ten-millionth of themselves.

        Raises:
            RuntimeError: the solver gave up.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        if not self._sizes:
            return None if () in cuts else ()
        matrix, low, high = self._constraints(cuts)
        found = milp(
            self._costs,
            integrality=np.ones(len(self._costs)),
            bounds=Bounds(0, self._allowed.astype(np.float64)),
            constraints=LinearConstraint(matrix, low, high),
            options={"mip_rel_gap": 0.0},
        )
        if found.status == 2:  # infeasible
            return None
        if found.x is None or found.status != 0:
            raise RuntimeError(f"scipy.optimize.milp: {found.message}")
        taken = (found.x[a:b] for a, b in zip(self._starts, self._starts[1:], strict=False))
        return tuple(int(np.argmax(part)) for part in taken)

    def _constraints(self, cuts: Sequence[Pick]) -> tuple[object, Numbers, Numbers]:
        """Return one variant a block, the bounds, and that no cut is met in all of its blocks."""
        from scipy.sparse import csr_array, vstack

        blocks, width = len(self._sizes), len(self._costs)
        of_block = np.repeat(np.arange(blocks), self._sizes)
        parts = [csr_array((np.ones(width), (of_block, np.arange(width))), shape=(blocks, width))]
        low, high = [np.ones(blocks)], [np.ones(blocks)]
        for row, least, most in self._rows:
            parts.append(csr_array(row[None]))
            low.append(np.array([least]))
            high.append(np.array([most]))
        if cuts:
            columns = (np.array(cuts) + self._starts[:-1]).ravel()
            rows = np.repeat(np.arange(len(cuts)), blocks)
            shape = (len(cuts), width)
            parts.append(csr_array((np.ones(len(columns)), (rows, columns)), shape=shape))
            low.append(np.full(len(cuts), -np.inf))
            high.append(np.full(len(cuts), blocks - 1.0))
        return vstack(parts), np.concatenate(low), np.concatenate(high)
