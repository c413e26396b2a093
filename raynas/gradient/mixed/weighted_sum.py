"""All candidates, weighted by the softmax of the logits (DARTS, arXiv:1806.09055, equation 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raynas.gradient.mixed.base import MIXED_OPS, Draw, Op, weighted


@MIXED_OPS.register("weighted_sum", aliases=("WeightedSum", "SoftmaxSumMixedOp"))
class WeightedSum:
    """The expectation over candidates; nothing is random."""

    combines = nests = True

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return nothing."""
        return None

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the weighted sum."""
        return weighted(ops, inputs, logits.softmax(-1))

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return the softmax."""
        return logits.softmax(-1)
