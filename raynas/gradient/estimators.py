"""How the logits' gradient is estimated from sampled candidates."""

from __future__ import annotations

from typing import Literal, get_args

from raynas.gradient.mixed.gumbel_sum import GumbelSum
from raynas.gradient.mixed.reinmax import ReinMax

Estimator = Literal["gumbel", "reinmax"]


def sampling_op(estimator: Estimator, temperature: float, *, hard: bool) -> GumbelSum | ReinMax:
    """Return the mixed operator of an estimator.

    Args:
        estimator: ``gumbel`` (arXiv:1611.01144) or ``reinmax`` (arXiv:2304.08612).
        temperature: of its softmax.
        hard: whether a Gumbel sample is one-hot; one of ReinMax always is.

    Raises:
        ValueError: another estimator.
    """
    if estimator not in get_args(Estimator):
        names = ", ".join(get_args(Estimator))
        raise ValueError(f"estimator is one of {names}, got {estimator!r}")
    return ReinMax(temperature) if estimator == "reinmax" else GumbelSum(temperature, hard=hard)
