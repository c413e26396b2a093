"""The protocol of mixed operators.

A forward pass never draws: what is random (noise, paths) is drawn before it, so that a pass that is
computed again, on another rank or after a restart, is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only

from raynas.core.registry import Registry
from raynas.nn.in_place import called

Op = Callable[..., Any]
Draw = Any  # what ``draw`` returned comes back to ``__call__``: noise, or positions


class MixedOp(Protocol):
    """Combines the candidates of one choice.

    Attributes:
        combines: whether the outputs of several candidates meet, so that they must be alike.
        nests: whether outputs may be tuples and dicts of tensors, which are mixed one by one.
    """

    @property
    def combines(self) -> bool:
        """Whether the outputs of several candidates meet."""
        ...

    @property
    def nests(self) -> bool:
        """Whether outputs may be nests of tensors."""
        ...

    def draw(self, p: NDArray[np.float64], rng: np.random.Generator) -> Draw:
        """Return what is random in a pass.

        Args:
            p: probabilities of the candidates, shape (candidates,); the logits instead for a
                subclass of ``DrawsByLogits``.
            rng: draws.
        """
        ...

    def __call__(self, ops: Sequence[Op], inputs: Sequence[Any], logits: Tensor, draw: Draw) -> Any:
        """Return the mixture.

        Args:
            ops: the candidates.
            inputs: what each is called with.
            logits: shape (candidates,).
            draw: of this pass.
        """
        ...

    def probabilities(self, logits: Tensor, draw: Draw) -> Tensor:
        """Return the differentiable weights that expected costs are taken with."""
        ...


class DrawsByLogits:
    """Base of mixed operators whose draws depend on more of the logits than their softmax."""


MIXED_OPS: Registry[Callable[..., MixedOp]] = Registry(
    "mixed operator", "raynas.gradient.mixed", group="raynas.mixed_operators"
)


class Bound:
    """A candidate with the keywords that it is called with; it leaves its inputs as they are."""

    def __init__(self, op: nn.Module, keywords: Mapping[str, Any]) -> None:
        self._op, self._keywords = op, keywords
        self.is_none = is_none(op)

    def __call__(self, *inputs: Any) -> Any:
        """Call the candidate."""
        return called(self._op, *inputs, **self._keywords)

    def modules(self) -> Iterator[nn.Module]:
        """Return the candidate's modules."""
        return self._op.modules()


class Dropped:
    """A candidate that is left out of a mixture for a while: it gives zeros."""

    is_none = True

    def __init__(self, op: Bound) -> None:
        self._op = op

    def __call__(self, *inputs: Any) -> Any:
        """Return zeros like the candidate's output."""
        return tree_map_only(Tensor, torch.zeros_like, self._op(*inputs))

    def modules(self) -> Iterator[nn.Module]:
        """Return the candidate's modules."""
        return self._op.modules()


def is_none(op: object) -> bool:
    """Return whether a candidate gives zeros: its term is left out of every sum."""
    return bool(getattr(op, "is_none", False))


def sampled(p: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Draw a position; one of probability 0 never comes."""
    edges = np.cumsum(p)
    # rounding leaves the last edge beside 1: dividing by it keeps all draws in range
    return int(np.searchsorted(edges / edges[-1], rng.random(), side="right"))


def weighted(ops: Sequence[Op], inputs: Sequence[Any], weights: Tensor) -> Any:
    """Return the sum of the candidates' outputs, each times its weight."""
    out = None
    for op, weight in zip(ops, weights.unbind(), strict=True):
        if not is_none(op):
            y = op(*inputs)
            if isinstance(y, Tensor):
                out = weight * y if out is None else torch.addcmul(out, y, weight)
            else:
                out = _added(out, y, weight)
    return ops[0](*inputs) if out is None else out


def _added(out: Any, y: Any, weight: Tensor) -> Any:
    """Return a nest of tensors plus another of its structure times a weight."""
    if out is None:
        return tree_map_only(Tensor, lambda leaf: weight * leaf, y)
    return tree_map(
        lambda a, b: torch.addcmul(a, b, weight) if isinstance(a, Tensor) else a, out, y
    )


class _Gate(torch.autograd.Function):
    """A copy of one tensor, whose gradient also gives a scalar its inner product with it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, _gate: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return y.clone()  # no view: what comes next may write to it

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        (g,), (y,) = gradients, ctx.saved_tensors
        return g, inner(y, g)


def gated(y: Any, gate: Tensor) -> Any:
    """Return ``y``, a nest of tensors, times a gate that is 1 in value, without multiplying."""
    if not gate.requires_grad:
        return y
    return tree_map_only(Tensor, lambda leaf: _Gate.apply(leaf, gate), y)


def inner(y: Tensor, g: Tensor) -> Tensor:
    """Return the sum of the products of two tensors of one shape, shape (), in float32 at least."""
    return (y * g).sum(dtype=torch.promote_types(y.dtype, torch.float32))
