"""What a sampler learns from: a trial's scores, and their ranks as normal quantiles."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from raynas.core.trial import Trial

_NORMAL = NormalDist()


def scores_of(trial: Trial, objectives: tuple[str, ...] = ()) -> tuple[float, ...] | None:
    """Return a trial's scores, all to be maximised; None if it failed or one is not finite.

    Args:
        trial: what was told.
        objectives: names of the scores expected; none or one of them takes ``trial.objective``.

    Raises:
        ValueError: the trial has another number of scores.
    """
    if trial.objective is None:
        return None
    expected, found = max(1, len(objectives)), max(1, len(trial.scores))
    if found != expected:
        names = ", ".join(objectives) or "the objective"
        raise ValueError(
            f"expected {expected} score(s) per trial ({names}), got {found} for {trial.arch}; "
            "pass the sampler one name per score, objectives=(...)"
        )
    scores = trial.scores if expected > 1 else (trial.objective,)
    return scores if all(map(math.isfinite, scores)) else None


def rank_normal(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal's quantile of (rank - 0.5) / N for N scores, ties averaged.

    >>> rank_normal(np.array([7.0, -1.0, 900.0])).round(3).tolist()
    [0.0, -0.967, 0.967]
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    twice_the_rank = 2 * last - counts + 1
    quantiles: NDArray[np.float64] = _quantiles(len(scores))[twice_the_rank - 2][place]
    return quantiles


@lru_cache(maxsize=8)
def _quantiles(count: int) -> NDArray[np.float64]:
    """Return the quantiles of the ranks 1, 1.5, 2, ... count."""
    ranks = (1 + i / 2 for i in range(2 * count - 1))
    return np.array([_NORMAL.inv_cdf((rank - 0.5) / count) for rank in ranks])
