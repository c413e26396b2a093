"""Asynchronous successive halving in one process (Li et al., 2020, arXiv:1810.05934)."""

from __future__ import annotations

import math

import numpy as np

from raynas.core.evaluator import SuccessiveHalving


class Rungs:
    """Compares trainings at the epochs that successive halving names.

    At each rung a training goes on unless its score is below the quantile, of the scores recorded
    there before, that lets one in ``reduction_factor`` through. That is how Ray Tune's
    ``AsyncHyperBandScheduler`` decides with one bracket.

    Args:
        stopping: first rung and reduction factor.
        epochs: of a whole training, which is never cut.

    >>> rungs = Rungs(SuccessiveHalving(grace_epochs=1, reduction_factor=2), 4)
    >>> [rungs.goes_on(trial, 1, score) for trial, score in enumerate((0.5, 0.7, 0.4, 0.6))]
    [True, True, False, True]
    """

    def __init__(self, stopping: SuccessiveHalving, epochs: int) -> None:
        self._epochs, self._factor = epochs, stopping.reduction_factor
        count = int(math.log(epochs / stopping.grace_epochs) / math.log(self._factor) + 1)
        milestones = [stopping.grace_epochs * self._factor**k for k in reversed(range(count))]
        self._scores: dict[float, dict[int, float]] = {epoch: {} for epoch in milestones}

    def goes_on(self, trial: int, epoch: int, score: float) -> bool:
        """Record a score and return whether its training goes on.

        Args:
            trial: its number.
            epoch: how many it was trained for.
            score: to be maximised.
        """
        if epoch >= self._epochs:
            return True
        for milestone, scores in self._scores.items():
            if epoch < milestone or trial in scores:
                continue
            others = list(scores.values())
            scores[trial] = score
            cut = np.percentile(others, (1 - 1 / self._factor) * 100) if others else -math.inf
            return bool(score >= cut)
        return True
