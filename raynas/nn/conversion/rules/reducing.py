"""Pooling, sums and means: over channels they are of all of them, else channels stay."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from raynas.nn.conversion.labels import NONE, differs_along, spread
from raynas.nn.conversion.rules.pointwise import tie_elementwise
from raynas.nn.conversion.rules.registry import rule
from raynas.nn.conversion.trace import Operation, Trace

POOLS = """
    max_pool2d _max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d interpolate
    upsample boolean_dispatch fn max_pool2d_with_indices avg_pool1d adaptive_avg_pool1d
    max_pool1d avg_pool3d max_pool3d adaptive_avg_pool3d adaptive_max_pool1d lp_pool2d
"""


@rule(POOLS)
def pooling(trace: Trace, op: Operation) -> None:
    """Other places, the same channels in dimension 1."""
    labels = trace.of(op.args[0])
    if labels is None:
        return
    dim = 1 if labels.dim() > 3 or op.args[0].dim() == op.out.dim() == 3 else 0
    vector = trace.channels(labels, dim)
    for out in tree_leaves(op.out):
        if isinstance(out, Tensor) and out.is_floating_point():
            trace.put(out, spread(vector, out.shape, dim))


@rule("softmax log_softmax normalize cumsum glu")
def along_a_dimension(trace: Trace, op: Operation) -> None:
    """Softmax and the like: element by element, and over a dimension together."""
    labels = trace.of(op.args[0])
    if labels is None or not isinstance(op.out, Tensor):
        return
    if op.name == "glu":
        first, second = labels.chunk(2, op.argument(1, "dim", -1))
        trace.labels.tie(first, second)
        trace.put(op.out, first)
        return
    dim = op.argument(
        2 if op.name == "normalize" else 1, "dim", 1 if op.name == "normalize" else -1
    )
    if dim is not None and differs_along(labels, dim):
        trace.reduce(labels)
    trace.put(op.out, labels)


@rule("mean sum var std amax amin norm var_mean std_mean max min logsumexp")
def reduction(trace: Trace, op: Operation) -> None:
    """Over channels it is a number of all of them; over other dimensions they stay."""
    labels = trace.of(op.args[0])
    if labels is None:
        return
    dim = op.argument(2 if op.name == "norm" else 1, "dim")
    if isinstance(dim, Tensor):
        tie_elementwise(trace, op.tensors, op.out)
        return
    dims = (
        list(range(labels.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    )
    high, low = labels.amax(dims, keepdim=True), labels.amin(dims, keepdim=True)
    if bool((high != low).any()):
        trace.reduce(labels)
    left = torch.where(high == low, high, NONE)
    for out in tree_leaves(op.out):
        if isinstance(out, Tensor) and out.numel() == left.numel():
            trace.put(out, left.reshape(out.shape))
