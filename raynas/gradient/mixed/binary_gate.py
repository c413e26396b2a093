"""Binary gates: one path runs, all logits learn (ProxylessNAS, arXiv:1812.00332, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.gradient.mixed.base import MIXED_OPS, Draw, Op, inner, is_none, sampled
from raynas.gradient.quiet import Quiet
from raynas.supernet.precision import Manner, as_now

Mode = Literal["two", "full", "full_v2"]


Others = Callable[[Sequence[Any]], Iterator[Any]]


class Gates(torch.autograd.Function):
    """A copy of the active output, whose backward gives every gate <its output, gradient>.

    The inactive outputs are kept from the forward pass, or computed in the backward pass, by
    ``others``, from the inputs that are kept instead.
    """

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, p: Tensor, at: int, others: Others | None, *held: Any
    ) -> Tensor:
        """Copy the active output.

        Args:
            ctx: keeps what the backward pass needs.
            y: the active output.
            p: the gates, shape (candidates,), whose values do not matter.
            at: the active position.
            others: gives the inactive outputs from ``held``; None where that holds them.
            held: the inputs, or the inactive outputs in order, None for zeros.
        """
        tensors = [isinstance(x, Tensor) for x in held]
        ctx.save_for_backward(y, *(x for x, kept in zip(held, tensors, strict=True) if kept))
        ctx.rest = [None if kept else (x,) for x, kept in zip(held, tensors, strict=True)]
        ctx.at, ctx.others, ctx.count = at, others, len(p)
        return y.clone()  # no view: what comes next may write to it

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        """Hand on the gradient, and give every gate its inner product."""
        (g,) = gradients
        y, *tensors = ctx.saved_tensors
        kept = iter(tensors)
        held = [next(kept) if rest is None else rest[0] for rest in ctx.rest]
        outputs = iter(held) if ctx.others is None else ctx.others(held)
        with torch.no_grad():
            gates = [
                inner(out, g) if isinstance(out, Tensor) else g.new_zeros(())
                for out in (y if k == ctx.at else next(outputs) for k in range(ctx.count))
            ]
        return g, torch.stack(gates), None, None, *(None for _ in held)


@MIXED_OPS.register("binary_gate", aliases=("BinGate", "BinaryGateMixedOp"))
class BinaryGate:
    """One sampled candidate gives the output; the logits' gradient is the straight-through one.

    With p the softmax over the active set and g_j the inner product of candidate j's output with
    the output's gradient, a logit's gradient is p_i (g_i - sum_j p_j g_j) (equation 4). Where the
    logits take no gradient, only the sampled candidate runs.

    Args:
        mode: ``full`` runs all candidates and keeps their outputs; ``full_v2`` runs the others in
            the backward pass, in one path's memory; ``two`` draws an active set of two.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, mode: Mode = "two") -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, got {mode!r}")
        self.mode, self._quiet = mode, Quiet()

    combines, nests = True, False  # every gate needs the inner product of two single tensors

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return the position of the active candidate, then those of the others in its set."""
        if self.mode != "two" or len(p) < 3:
            at = sampled(p, rng)
            return (at, *(k for k in range(len(p)) if k != at))
        i, j = two_of(p, rng)
        return (i, j) if rng.random() < p[i] / (p[i] + p[j]) else (j, i)

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the active candidate's output."""
        active = ops[draw[0]]
        y = active(*inputs)
        if not (logits.requires_grad and torch.is_grad_enabled()):
            return y
        index = sorted(draw)
        at, chosen = index.index(draw[0]), [ops[k] for k in index]
        p = _softmax(logits, index)

        # a backward pass may be in another thread, and is never under autocast
        manner = as_now(y.device) if self.mode == "full_v2" else nullcontext

        def others(held: Sequence[Any]) -> Iterator[Any]:
            return (self._quietly(op, held, manner) for k, op in enumerate(chosen) if k != at)

        if self.mode == "full_v2":
            return Gates.apply(y, p, at, others, *inputs)
        return Gates.apply(y, p, at, None, *others(inputs))

    def _quietly(self, op: Op, inputs: Sequence[Any], manner: Manner) -> Any:
        """Return what a candidate gives that only lends its output, None for zeros."""
        if is_none(op):
            return None
        with torch.no_grad(), self._quiet(op), manner():
            return op(*inputs)

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return the softmax over the active set, zeros elsewhere."""
        index = sorted(draw)
        p = _softmax(logits, index)
        if len(index) == len(logits):
            return p
        weights = [p.new_zeros(())] * len(logits)
        for k, value in zip(index, p.unbind(), strict=True):
            weights[k] = value
        return torch.stack(weights)


def _softmax(logits: Tensor, index: Sequence[int]) -> Tensor:
    """Return the softmax over some positions; an index tensor would have to reach the device."""
    if len(index) == len(logits):
        return logits.softmax(-1)
    return torch.stack([logits[k] for k in index]).softmax(-1)


def two_of(p: NDArray[np.float64], rng: np.random.Generator) -> tuple[int, int]:
    """Draw two different positions, the second from what the first leaves.

    Where all but one probability has underflowed, the second is uniform.
    """
    i = sampled(p, rng)
    rest = p.copy()
    rest[i] = 0.0
    if rest.sum() <= 0.0:
        rest[:] = 1.0
        rest[i] = 0.0
    return i, sampled(rest, rng)
