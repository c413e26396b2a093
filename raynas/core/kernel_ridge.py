"""Kernel ridge regression of scores on the shares of equal decisions.

Shapes: N points, P with those in flight, C candidates, A centres, M objectives.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from raynas.core.candidates import Candidates
from raynas.core.codes import Rows
from raynas.core.similarity import EqualDecisions
from raynas.core.surrogate import Matrix, kernel, posterior_bounds

STEP = 1e-3  # of a share, for the kernel's slope
LEAST = 1e-6  # of a variance, for its slope


class KernelRidge:
    """A model of points, and of where it is unsure.

    Args:
        equal: the likeness of architectures.
        rows: the points.
        targets_NM: what they scored.
        flying: points of unknown scores.
        noise: variance of the targets.
    """

    def __init__(
        self, equal: EqualDecisions, rows: Rows, targets_NM: Matrix, flying: Rows, *, noise: float
    ) -> None:
        self._targets_NM, self._noise = targets_NM, noise
        self._points = np.concatenate([rows, flying])
        self._shares = equal.to(self._points)

    @cached_property
    def _known(self) -> Matrix:
        """The kernel among the points, shape (P, P)."""
        return kernel(self._shares.of_rows(self._points))

    @property
    def objectives(self) -> int:
        """How many."""
        return int(self._targets_NM.shape[1])

    def bounds(self, around: Candidates) -> tuple[Matrix, Matrix]:
        """Return mean and mean + deviation of every objective, each of shape (C, M)."""
        cross_CP = kernel(self._shares.of(around))
        return posterior_bounds(self._known, cross_CP, self._targets_NM, noise=self._noise)

    def gains(self, centres: Rows, weights_AM: Matrix) -> Matrix:
        """Return what each value of each column adds to the bound at a centre, about.

        That is the slope of the mean + deviation in the shares of decisions equal to the points',
        so that the gain of a change is the new value's less the old one's. Rounded as the bounds.

        Args:
            centres: shape (A, K).
            weights_AM: of the objectives.

        Returns:
            Shape (A, values of all columns).
        """
        n = len(self._targets_NM)
        gram = self._known + self._noise * np.eye(len(self._known))
        shares_AP = self._shares.of_rows(centres)
        cross_AP = kernel(shares_AP)
        solved_AP = np.linalg.solve(gram, cross_AP.T).T
        variance_A = np.maximum(1 - np.einsum("ap,ap->a", cross_AP, solved_AP), LEAST)
        slope_AP = -solved_AP / np.sqrt(variance_A)[:, None]
        slope_AP[:, :n] += weights_AM @ np.linalg.solve(gram[:n, :n], self._targets_NM).T
        slope_AP *= (kernel(shares_AP + STEP) - cross_AP) / STEP
        gains: Matrix = np.round(self._shares.gains(slope_AP), 9)
        return gains
