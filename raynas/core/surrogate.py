"""A model of scores by kernel ridge regression, and what a candidate may bring.

Shapes: N points, P in flight, F features, C candidates, M objectives.
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


def quadratic_bounds(
    fitted_NF: Matrix,
    targets_NM: Matrix,
    candidates_CF: Matrix,
    flying_PF: Matrix,
    *,
    noise: float,
) -> tuple[Matrix, Matrix]:
    """Return mean and mean + deviation of kernel ridge regression, each of shape (C, M).

    The P points in flight lower the deviation around them and leave the mean as it is (Desautels,
    Krause and Burdick, 2014, arXiv:1206.6402). Rounded, so that no linear algebra library's last
    digits decide an order.
    """
    n = len(fitted_NF)
    points_F = np.vstack([fitted_NF, flying_PF])
    gram = kernel(points_F @ points_F.T) + noise * np.eye(len(points_F))
    cross_C = kernel(points_F @ candidates_CF.T)
    mean_CM: Matrix = cross_C[:n].T @ np.linalg.solve(gram[:n, :n], targets_NM)
    variance_C = 1 - (cross_C * np.linalg.solve(gram, cross_C)).sum(0)
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
