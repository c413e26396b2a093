"""A model of scores by kernel ridge regression, and what a candidate may bring.

Shapes: N points, P with those in flight, C candidates, M objectives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raynas.core.objectives import hypervolume, pareto_mask
from raynas.core.ranking import rank_normal

Matrix = NDArray[np.float64]


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
    return 0.3 * shares + 0.7 * shares**2


def posterior_bounds(
    known_PP: Matrix, cross_CP: Matrix, targets_NM: Matrix, *, noise: float
) -> tuple[Matrix, Matrix]:
    """Return mean and mean + deviation of kernel ridge regression, each of shape (C, M).

    Points in flight lower the deviation around them and leave the mean as it is (Desautels, Krause
    and Burdick, 2014, arXiv:1206.6402). Rounded, so that no linear algebra library's last digits
    decide an order.

    Args:
        known_PP: kernel among the N points of the targets and, after them, those in flight.
        cross_CP: kernel of candidates and these points.
        targets_NM: what is known.
        noise: variance of the targets.
    """
    n = len(targets_NM)
    gram = known_PP + noise * np.eye(len(known_PP))
    mean_CM: Matrix = cross_CP[:, :n] @ np.linalg.solve(gram[:n, :n], targets_NM)
    whitened_CP = cross_CP @ np.linalg.inv(np.linalg.cholesky(gram)).T
    variance_C = 1 - np.einsum("cp,cp->c", whitened_CP, whitened_CP)
    upper_CM: Matrix = np.round(mean_CM + np.sqrt(np.maximum(variance_C, 0))[:, None], 9)
    mean_CM = np.round(mean_CM, 9)
    return mean_CM, upper_CM


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
