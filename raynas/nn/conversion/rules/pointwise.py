"""Element by element: what meets belongs together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raynas.nn.conversion.labels import NONE, along, compact, differs_along, spread
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.registry import rule
from raynas.nn.conversion.trace import Trace

POINTWISE = """
    gelu relu silu sigmoid hardswish hardsigmoid hardtanh relu6 tanh pow rsqrt sqrt exp neg
    abs square log leaky_relu elu mish masked_fill masked_fill_ where clamp clamp_min sin
    cos relu_ hardswish_ hardsigmoid_ hardtanh_ silu_ gelu_ erf softplus selu celu relu6_
    reciprocal clamp_ clip sign floor nan_to_num exp_ sigmoid_ tanh_ logsigmoid softsign sub
    sub_ div div_ __sub__ __rsub__ __truediv__ __rtruediv__ __idiv__ __itruediv__ __isub__
    true_divide maximum minimum addcmul lerp rsub __pow__ __neg__ __abs__ divide log1p expm1
    log2 log_sigmoid glu_ prelu subtract __rpow__ __ipow__ square_
"""


PASSED = """
    dropout dropout1d dropout2d feature_dropout stochastic_depth alpha_dropout mul_ mul __mul__
    __rmul__ __imul__ multiply
"""


ADDED = "add add_ __add__ __radd__ __iadd__"


@rule(POINTWISE)
def pointwise(trace: Trace, op: Operation) -> None:
    """What meets element by element belongs together."""
    tie_elementwise(trace, op.tensors, op.out)


@rule(PASSED)
def passed(trace: Trace, op: Operation) -> None:
    """As ``pointwise``; a term that is scaled or dropped is still that term."""
    tie_elementwise(trace, op.tensors, op.out)
    sources = [x for x in op.tensors if trace.of(x) is not None and x.shape == op.out.shape]
    if len(sources) == 1:
        trace.passes(op.out, sources[0])


@rule(ADDED)
def added(trace: Trace, op: Operation) -> None:
    """As ``pointwise``; terms of a sum are noted."""
    terms = [x for x in op.tensors if trace.of(x) is not None and x.shape == op.out.shape]
    trace.add(*terms)
    tie_elementwise(trace, op.tensors, op.out)


def tie_elementwise(trace: Trace, tensors: list[Tensor], out: Any) -> None:
    """Tie tensors that are broadcast to an output, weights among them, and label that."""
    if not isinstance(out, Tensor) or _of_weights(trace, tensors, out):
        return
    labels: Tensor | None = None
    for x in tensors:
        own = trace.of(x)
        if own is None:
            continue
        own = own.expand(out.shape)
        if labels is None:
            labels = own
        else:
            trace.labels.tie(labels, own)
            labels = own if not bool(compact(labels).any()) else _either(labels, own)
    for x in tensors:
        name = trace.name(x)
        if labels is not None and trace.of(x) is None and trace.sizes(x):
            trace.put(x, _of_created(trace, x, labels))
        if name is not None and trace.of(x) is None and x.is_floating_point() and x.dim():
            own = of_named(trace, name, x, labels)
            if own is not None:
                own = own.expand(out.shape)
                if labels is None:
                    labels = own
                else:
                    trace.labels.tie(labels, own)
    trace.put(out, labels)
    if labels is None:
        trace.created(out, {dim: size for x in tensors for dim, size in trace.sizes(x).items()})


def _of_weights(trace: Trace, tensors: list[Tensor], out: Tensor) -> bool:
    """Tie weights that meet each other alone, one of them in the output's shape; else False."""
    lineages = [trace.lineage(x) for x in tensors]
    others = [x for one, x in zip(lineages, tensors, strict=True) if one is None]
    if any(trace.of(x) is not None or (trace.name(x) and x.numel() > 1) for x in others):
        return False
    of_shape = [x for x in tensors if x.shape == out.shape]
    made = [lineage for x in of_shape if (lineage := trace.lineage(x)) is not None]
    main = next((x for x in of_shape if trace.lineage(x) is not None), None)
    if main is None:
        return False
    for x, lineage in zip(tensors, lineages, strict=True):
        if lineage is not None and x is not main:
            _tie_weights(trace, main, x)
    trace.descend(out, made[0])
    return True


def _tie_weights(trace: Trace, main: Tensor, other: Tensor) -> None:
    for back in range(1, other.dim() + 1):
        if other.shape[-back] > 1:
            a, b = (trace.weight_labels(x, x.dim() - back) for x in (main, other))
            if a is not None and b is not None:
                trace.labels.tie(a, b)


def _of_created(trace: Trace, x: Tensor, like: Tensor) -> Tensor | None:
    """Return labels of a tensor that was created as wide as the channels that it meets."""
    for dim, size in trace.sizes(x).items():
        if x.shape[dim] == like.shape[dim] and differs_along(like, like.dim() + dim):
            vector = trace.channels(like, dim)
            trace.follow(size, vector)
            return spread(vector, x.shape, dim)
    return None


def _either(labels: Tensor, own: Tensor) -> Tensor:
    few = compact(labels)
    if bool((few != NONE).all()):
        return labels
    few_own = compact(own)
    return torch.where(few == NONE, few_own, few).expand(labels.shape)


def of_named(trace: Trace, name: str, x: Tensor, like: Tensor | None) -> Any:
    """Return labels of a parameter or buffer that is no weight of a product.

    Where it meets channels, its dimension is the one along which these vary most; else its last.
    If dimensions before that tell channels apart too (the same numbers for every head, say), it is
    no part of them: what it meets along its own dimension stays together instead.
    """
    if like is None:
        dim = x.dim() - 1 if isinstance(x, torch.nn.Parameter) and x.shape[-1] > 1 else None
    else:
        dim = _meeting(x, like)
    if dim is None:
        return None if like is not None else torch.zeros((), dtype=torch.long).expand(x.shape)
    if like is not None:
        at = dim - x.dim()
        rows = along(like, at % like.dim()).expand(like.shape[at], -1)
        inner = any(differs_along(like, d) for d in range(at % like.dim()))
        if like.dim() > 3 and inner and bool((rows != rows[:, :1]).any()) and _independent(rows):
            trace.labels.tie(rows, rows[:1])
            trace.freeze(trace.node(name, dim), "it is shared by channels that are told apart")
            return None
    return spread(trace.node(name, dim), x.shape, dim)


def _independent(rows: Tensor) -> bool:
    """Return whether no label stands in two columns of different rows: products of two dims."""
    return len(torch.unique(rows)) > len(rows)


def _meeting(x: Tensor, like: Tensor) -> int | None:
    best, at = 1, None
    for back in range(1, min(x.dim(), like.dim()) + 1):
        size = x.shape[-back]
        if size > 1 and like.shape[-back] == size and differs_along(like, like.dim() - back):
            rows = along(like, like.dim() - back).expand(size, -1)[:, -1]
            distinct = len(torch.unique(rows[rows != NONE]))
            if distinct > best:
                best, at = distinct, x.dim() - back
    return at
