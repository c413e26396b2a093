"""How far measurements are from what is true, in the unit of a model's targets.

Shapes: N points, M objectives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raynas.core.points import Points
from raynas.core.surrogate import Matrix, evidence

NONE = 2  # degrees of freedom of the belief that there is no noise
VARIANCES = (0.0, 0.3, 1.0, 3.0, 10.0)  # that an earlier run's scores may have beyond


def own_noise(points: Points, scores_NM: Matrix, targets_NM: Matrix) -> float:
    """Return the variance of one measurement's target; 0 where nothing was measured twice.

    That within points measured several times is pooled; a few of them are shrunk towards 0. Of
    several objectives it is the mean.

    Args:
        points: all.
        scores_NM: of some of them.
        targets_NM: what a model learns in their place, which rises with them.
    """
    squares, freedom = np.zeros(targets_NM.shape[1]), 0
    for measured in points.repeats.values():
        targets = _targets(np.array(measured), scores_NM, targets_NM)
        squares += ((targets - targets.mean(0)) ** 2).sum(0)
        freedom += len(targets) - 1
    return round(float(squares.mean()) / (freedom + NONE), 9)


def earlier_noise(
    known_NN: Matrix, targets_NM: Matrix, noise_N: NDArray[np.float64], own_N: NDArray[np.bool_]
) -> float:
    """Return what makes all targets likeliest if it is added to the variance of an earlier run's.

    Scores of another evaluator may order architectures otherwise, and that is noise to this run.

    Args:
        known_NN: kernel among the points.
        targets_NM: theirs.
        noise_N: variance of the targets.
        own_N: which of them this run has measured.
    """
    if own_N.all():
        return 0.0
    told = [
        evidence(known_NN, targets_NM, noise=noise_N + variance * ~own_N) for variance in VARIANCES
    ]
    return VARIANCES[int(np.argmax(told))]


def _targets(measured: Matrix, scores_NM: Matrix, targets_NM: Matrix) -> Matrix:
    """Return the targets that measured scores would have, between those of the points."""
    columns = []
    for own, scores, targets in zip(measured.T, scores_NM.T, targets_NM.T, strict=True):
        order = np.argsort(scores, kind="stable")
        columns.append(np.interp(own, scores[order], targets[order]))
    return np.stack(columns, axis=1)
