"""Kernel ridge regression of scores on the shares of equal decisions and of common options.

Shapes: N points, P with those in flight, C candidates, A centres, M objectives.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from raynas.core.candidates import Candidates
from raynas.core.codes import Rows
from raynas.core.likeness import Likeness
from raynas.core.option_counts import OptionCounts
from raynas.core.surrogate import (
    Average,
    Matrix,
    Noise,
    diagonal,
    evidence,
    kernel,
    posterior_bounds,
    probabilities,
    variance_scales,
)

WEIGHTS = (0.0, 0.3, 0.6)  # of common options beside equal decisions
BEFORE = (0.6, 0.3, 0.1)  # their probabilities before anything is told
BLOCK = 512  # candidates whose kernels stay in a processor's cache
STEP = 1e-3  # of a share, for the kernel's slope
LEAST = 1e-6  # of a variance, for its slope


class KernelRidge:
    """A model of points, and of where it is unsure.

    With counts, it is an average over kernels in which the share of equal decisions is mixed with
    that of common options, by the probabilities that the targets give them (Hoeting et al., 1999,
    "Bayesian model averaging").

    Args:
        likeness: of architectures.
        rows: the points.
        targets_NM: what they scored.
        flying: points of unknown scores.
        noise: variance of the targets and of what those in flight will score, of all or each,
            shape (P,).
    """

    def __init__(
        self,
        likeness: Likeness,
        rows: Rows,
        targets_NM: Matrix,
        flying: Rows,
        *,
        noise: Noise,
    ) -> None:
        self._likeness = likeness
        self._targets_NM = targets_NM
        self._points = likeness.compared(np.concatenate([rows, flying]))
        self._noise_P: Matrix = np.broadcast_to(noise, len(self._points)).astype(np.float64)
        self._shares = likeness.equal.to(self._points)

    @cached_property
    def _equal_shares(self) -> Matrix:
        """Of the points, shape (P, P)."""
        return self._shares.of_rows(self._points)

    @cached_property
    def _known(self) -> Matrix:
        """The kernel of equal decisions among the points, shape (P, P)."""
        return kernel(self._equal_shares)

    @property
    def objectives(self) -> int:
        """How many."""
        return int(self._targets_NM.shape[1])

    def means(self) -> Matrix:
        """Return what equal decisions let expect of the points themselves, shape (N, M)."""
        n = len(self._targets_NM)
        known_NN: Matrix = self._known[:n, :n]
        gram = known_NN + diagonal(self._noise_P[:n], n)
        means: Matrix = known_NN @ np.linalg.solve(gram, self._targets_NM)
        return np.round(means, 9)

    def bounds(self, around: Candidates) -> tuple[Matrix, Matrix]:
        """Return mean and mean + deviation of every objective, each of shape (C, M)."""
        compared, equal_CP = self._compared(around)
        counts = self._likeness.counts
        if counts is None:
            known, cross = self._known, kernel(equal_CP)
            return posterior_bounds(known, cross, self._targets_NM, noise=self._noise_P)
        weights, chances, kernels = zip(*self._parts(counts), strict=True)
        average = Average(
            list(zip(chances, kernels, strict=True)), self._targets_NM, noise=self._noise_P
        )
        common_CP = counts.between(compared, self._points)
        found = []
        for at in range(0, max(len(around), 1), BLOCK):
            both = equal_CP[at : at + BLOCK], common_CP[at : at + BLOCK]
            found.append(average.bounds([kernel(_mixed(*both, weight)) for weight in weights]))
        means, uppers = zip(*found, strict=True)
        return np.concatenate(means), np.concatenate(uppers)

    def _compared(self, around: Candidates) -> tuple[Rows, Matrix]:
        """Return the rows that are compared for candidates, and their shares with the points."""
        if self._likeness.canonical is None:
            return around.rows, self._shares.of(around)
        rows = self._likeness.compared(around.rows)
        return rows, self._shares.of_rows(rows)

    def _parts(self, counts: OptionCounts) -> list[tuple[float, float, Matrix]]:
        """Return weights of the counts, their probabilities and kernels; none improbable."""
        n = len(self._targets_NM)
        common_PP = counts.between(self._points, self._points)
        known = [kernel(_mixed(self._equal_shares, common_PP, weight)) for weight in WEIGHTS]
        told = [evidence(k[:n, :n], self._targets_NM, noise=self._noise_P[:n]) for k in known]
        chances = probabilities(told, BEFORE).tolist()
        return [part for part in zip(WEIGHTS, chances, known, strict=True) if part[1] > 0]

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
        gram = self._known + diagonal(self._noise_P, len(self._known))
        shares_AP = self._shares.of_rows(centres)
        cross_AP = kernel(shares_AP)
        solved_AP = np.linalg.solve(gram, cross_AP.T).T
        variance_A = np.maximum(1 - np.einsum("ap,ap->a", cross_AP, solved_AP), LEAST)
        solved_NM = np.linalg.solve(gram[:n, :n], self._targets_NM)
        deviations_M = np.sqrt(variance_scales(self._targets_NM, solved_NM))
        slope_AP = -solved_AP * (weights_AM @ deviations_M / np.sqrt(variance_A))[:, None]
        slope_AP[:, :n] += weights_AM @ solved_NM.T
        slope_AP *= (kernel(shares_AP + STEP) - cross_AP) / STEP
        gains: Matrix = np.round(self._shares.gains(slope_AP), 9)
        return gains


def _mixed(equal: Matrix, common: Matrix, weight: float) -> Matrix:
    if weight == 0:
        return equal
    mixed = common - equal
    mixed *= weight
    mixed += equal
    return mixed
