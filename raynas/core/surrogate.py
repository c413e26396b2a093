"""A model of scores by kernel ridge regression, and what a candidate may bring.

Shapes: N points, P with those in flight, C candidates, M objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raynas.core.objectives import hypervolume, pareto_mask
from raynas.core.ranking import rank_normal

Matrix = NDArray[np.float64]
Noise = float | NDArray[np.float64]  # one variance, or one of each point

LEAST = 1e-12  # of a mean square
DEVIATIONS = 1.5  # of each of several objectives
NEGLIGIBLE = 0.05  # of the largest probability


def ranked(scores_NM: Matrix) -> Matrix:
    """Return the normal quantiles of every objective's ranks."""
    return np.stack([rank_normal(column) for column in scores_NM.T], axis=1)


def expected(target: float, targets_N: Matrix, scores_N: Matrix) -> float:
    """Return the score of an expected rank, between the known ones, in their own unit.

    >>> expected(0.25, np.array([0.5, -0.5, 0.0]), np.array([0.9, 0.1, 0.6]))
    0.75
    """
    order = np.argsort(targets_N, kind="stable")
    return float(np.interp(target, targets_N[order], scores_N[order]))


def kernel(shares: Matrix) -> Matrix:
    """Return the likeness of architectures that agree in such shares of their decisions."""
    likeness = 0.7 * shares
    likeness += 0.3
    likeness *= shares  # in place: large arrays take longer to get than to fill
    return likeness


def diagonal(noise: Noise, count: int) -> Matrix:
    """Return the noise of so many points as a matrix."""
    return noise * np.eye(count)


def posterior_bounds(
    known_PP: Matrix, cross_CP: Matrix, targets_NM: Matrix, *, noise: Noise
) -> tuple[Matrix, Matrix]:
    """Return mean and mean + deviation of kernel ridge regression, each of shape (C, M).

    Points in flight lower the deviation around them and leave the mean as it is (Desautels, Krause
    and Burdick, 2014, arXiv:1206.6402). Rounded, so that no linear algebra library's last digits
    decide an order.

    Args:
        known_PP: kernel among the N points of the targets and, after them, those in flight.
        cross_CP: kernel of candidates and these points.
        targets_NM: what is known.
        noise: variance of the targets, of all or each, shape (P,).
    """
    return Average([(1.0, known_PP)], targets_NM, noise=noise).bounds([cross_CP])


class Average:
    """Several regressions of the same targets, by their probabilities.

    The variance is that of the likeliest one, and that of all means beside it. Several objectives
    have deviations of their own scales.

    Args:
        parts: the probability of each, and the kernel among its points as of ``posterior_bounds``.
        targets_NM: what is known.
        noise: variance of the targets, of all or each, shape (P,).
    """

    def __init__(
        self, parts: Sequence[tuple[float, Matrix]], targets_NM: Matrix, *, noise: Noise
    ) -> None:
        self._probabilities = [probability for probability, _ in parts]
        self._likeliest = int(np.argmax(self._probabilities))
        n = self._known = len(targets_NM)
        grams = [known_PP + diagonal(noise, len(known_PP)) for _, known_PP in parts]
        self._solved = [np.linalg.solve(gram[:n, :n], targets_NM) for gram in grams]
        scales = (
            p * variance_scales(targets_NM, own)
            for p, own in zip(self._probabilities, self._solved, strict=True)
        )
        self._scales_M = np.sum(list(scales), axis=0)
        self._whitening_PP = np.linalg.inv(np.linalg.cholesky(grams[self._likeliest])).T

    def bounds(self, crosses: Sequence[Matrix]) -> tuple[Matrix, Matrix]:
        """Return mean and mean + deviation, each of shape (C, M), rounded.

        Args:
            crosses: the kernel of candidates and points of each part, shape (C, P).
        """
        means = [
            cross_CP[:, : self._known] @ solved_NM
            for cross_CP, solved_NM in zip(crosses, self._solved, strict=True)
        ]
        mean_CM = sum(p * own for p, own in zip(self._probabilities, means, strict=True))
        square_CM = sum(p * own**2 for p, own in zip(self._probabilities, means, strict=True))
        whitened_CP = crosses[self._likeliest] @ self._whitening_PP
        variance_C = np.maximum(1 - np.einsum("cp,cp->c", whitened_CP, whitened_CP), 0)
        between_CM = np.maximum(square_CM - mean_CM**2, 0)
        upper_CM = mean_CM + np.sqrt(variance_C[:, None] * self._scales_M + between_CM)
        return np.round(mean_CM, 9), np.round(upper_CM, 9)


def variance_scales(targets_NM: Matrix, solved_NM: NDArray[np.floating[Any]]) -> Matrix:
    """Return what the kernel's variance is multiplied with for each objective, shape (M,).

    Of one it is 1. Several differ in how well a model tells them, a cost often exactly: it is that
    of the likeliest scale (Rasmussen and Williams, 2006, 5.4.1) and of 1.5 deviations.

    Args:
        targets_NM: what is known.
        solved_NM: the inverse of the kernel with noise, times the targets.
    """
    if targets_NM.shape[1] == 1:
        return np.ones(1)
    scales: Matrix = DEVIATIONS**2 * (targets_NM * solved_NM).mean(0)
    return np.maximum(scales, LEAST)


def evidence(known_NN: Matrix, targets_NM: Matrix, *, noise: Noise) -> float:
    """Return the log marginal likelihood of the targets, up to a constant, rounded.

    It is that of the best scale of each objective (Rasmussen and Williams, 2006, 2.3 and 5.4.1).

    Args:
        known_NN: kernel among the points.
        targets_NM: what is known of them.
        noise: its variance, in the kernel's scale, of all or each, shape (N,).
    """
    factor = np.linalg.cholesky(known_NN + diagonal(noise, len(known_NN)))
    whitened_NM = np.linalg.solve(factor, targets_NM)
    scales_M = np.maximum((whitened_NM**2).mean(0), LEAST)
    halves = np.log(np.diag(factor)).sum() + len(targets_NM) / 2 * np.log(scales_M)
    return round(-float(halves.sum()), 9)


def probabilities(evidences: Sequence[float], before: Sequence[float]) -> NDArray[np.float64]:
    """Return those of models that had some before anything was told; tiny ones are zero.

    Args:
        evidences: log marginal likelihoods.
        before: probabilities.
    """
    chances: NDArray[np.float64] = np.exp(np.array(evidences) - max(evidences)) * before
    chances /= chances.max()
    chances[chances < NEGLIGIBLE] = 0.0
    rounded: NDArray[np.float64] = np.round(chances / chances.sum(), 9)
    return rounded


def improvement(
    upper_CM: Matrix, known_NM: Matrix, own_N: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return by how much each candidate enlarges the hypervolume of the known points, shape (C,).

    The reference lies 0.1 below the worst known score of each objective. Candidates that another
    one beats cannot be the largest and get -1.

    Args:
        upper_CM: of the candidates.
        known_NM: of the known points.
        own_N: which of them make the front that is to grow; None takes all.
    """
    reference = known_NM.min(0) - 0.1
    mine_NM = known_NM if own_N is None else known_NM[own_N]
    front = mine_NM[pareto_mask(mine_NM)]
    before = hypervolume(front, reference)
    gains = np.full(len(upper_CM), -1.0)
    for i in np.flatnonzero(pareto_mask(upper_CM)):
        gains[i] = hypervolume(np.vstack([front, upper_CM[i]]), reference) - before
    return np.round(gains, 9)
