"""ReinMax: one sampled candidate, whose logits learn with second-order accuracy.

Liu et al., 2023, arXiv:2304.08612.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.gradient.mixed.base import MIXED_OPS, Draw, Op, is_none, sampled
from raynas.gradient.mixed.binary_gate import Gates
from raynas.gradient.quiet import Quiet


class _Heun(torch.autograd.Function):
    """A one-hot sample, whose gradient is estimated by Heun's method (algorithm 2)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, one_hot: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(logits, one_hot)
        ctx.temperature = temperature
        return one_hot.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        (g,), (logits, one_hot) = gradients, ctx.saved_tensors
        middle = (one_hot + (logits / ctx.temperature).softmax(-1)) / 2
        return 2 * _slope(middle, g) - _slope(logits.softmax(-1), g) / 2, None, None


def _slope(p: Tensor, g: Tensor) -> Tensor:
    """Return the product of a softmax' Jacobian, where it is ``p``, and a vector."""
    return p * (g - (p * g).sum())


@MIXED_OPS.register("reinmax", aliases=("ReinMaxMixedOp",))
class ReinMax:
    """One candidate sampled from the softmax gives the output; the others lend theirs.

    With D the one-hot sample, p the softmax, m the mean of D and the softmax at a temperature, g_j
    the inner product of candidate j's output with the output's gradient and J(q) g = q (g - q.g),
    the logits' gradient is 2 J(m) g - J(p) g / 2. At temperature 1 its expectation is exact where
    the loss is quadratic in D (theorem 3.2); the plain straight-through gradient, J(p) g, is so
    where it is linear. All candidates run where logits learn, the others without a graph of their
    own; where logits take no gradient, only the sampled one runs.

    Args:
        temperature: of the softmax in m; as the authors prefer it, one below 1 counts as 1.

    Raises:
        ValueError: the temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if temperature <= 0:
            raise ValueError(f"the temperature must be positive, got {temperature}")
        self.temperature, self._quiet = temperature, Quiet()

    combines, nests = True, False  # as of binary gates: inner products of two single tensors

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return the position of one candidate."""
        return sampled(p, rng)

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the sampled candidate's output."""
        y = ops[draw](*inputs)
        if not (logits.requires_grad and torch.is_grad_enabled()):
            return y
        one_hot = torch.zeros_like(logits, requires_grad=False)
        one_hot[draw] = 1.0
        gates = _Heun.apply(logits, one_hot, max(self.temperature, 1.0))
        others = (self._quietly(op, inputs) for k, op in enumerate(ops) if k != draw)
        return Gates.apply(y, gates, draw, None, *others)

    def _quietly(self, op: Op, inputs: Sequence[Any]) -> Any:
        """Return what a candidate gives that only lends its output, None for zeros."""
        if is_none(op):
            return None
        with torch.no_grad(), self._quiet(op):
            return op(*inputs)

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return the softmax: expected costs, linear in it, have an exact gradient."""
        return logits.softmax(-1)
