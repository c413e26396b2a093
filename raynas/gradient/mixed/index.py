"""One sampled candidate runs, as if the others were not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raynas.gradient.mixed.base import MIXED_OPS, Draw, Op, sampled


@MIXED_OPS.register("index", aliases=("Index", "IndexMixedOp"))
class Index:
    """The candidate that was drawn; its logits get no gradient."""

    combines, nests = False, True

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return the position of one candidate."""
        return sampled(p, rng)

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the candidate's output."""
        return ops[draw](*inputs)

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return the softmax."""
        return logits.softmax(-1)
