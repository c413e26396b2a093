"""Candidates weighted by a softmax with Gumbel noise (Jang et al., 2017, arXiv:1611.01144)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.gradient.mixed.base import MIXED_OPS, Draw, Op, gated, is_none, weighted


@MIXED_OPS.register("gumbel_sum", aliases=("GumbelSum", "GumbelSumMixedOp"))
class GumbelSum:
    """One sample of the concrete distribution per label and pass.

    Args:
        temperature: that noisy log-probabilities are divided by; algorithms anneal it.
        hard: run only the strongest candidate, with weight 1 in value and the softmax' gradient
            (GDAS, arXiv:1910.04465, equation 7). Differs from the authors' code, where candidates
            that do not run get a gradient that does not depend on them: here they get none of
            their own, and the softmax shares out the strongest's.

    Raises:
        ValueError: the temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0, *, hard: bool = False) -> None:
        if temperature <= 0:
            raise ValueError(f"the temperature must be positive, got {temperature}")
        self.temperature, self.hard = temperature, hard

    nests = True

    @property
    def combines(self) -> bool:
        """Whether more than the strongest candidate runs."""
        return not self.hard

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return Gumbel noise and, for a hard sample, the position that it makes the strongest."""
        noise = rng.gumbel(size=p.shape)
        return torch.from_numpy(noise), int(np.argmax(np.log(np.maximum(p, 1e-300)) + noise))

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the weighted sum, or the strongest candidate's output."""
        if not self.hard:
            return weighted(ops, inputs, self.probabilities(logits, draw))
        at = draw[1]
        y = ops[at](*inputs)
        if is_none(ops[at]) or not logits.requires_grad:
            return y
        return gated(y, self.probabilities(logits, draw)[at])

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return the sample: soft, or one-hot in value with the soft one's gradient."""
        noise, at = draw
        soft: Tensor = ((logits.log_softmax(-1) + noise.to(logits)) / self.temperature).softmax(-1)
        if not self.hard:
            return soft
        one_hot = torch.zeros_like(soft)
        one_hot[at] = 1.0
        sample: Tensor = one_hot + (soft - soft.detach())  # the brackets keep it exactly one-hot
        return sample
