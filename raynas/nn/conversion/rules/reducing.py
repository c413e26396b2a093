"""Pooling, sums and means: over channels they are of all of them, else channels stay."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from raynas.nn.conversion.labels import NONE, differs_along, spread
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.pointwise import tie_elementwise
from raynas.nn.conversion.rules.registry import rule
from raynas.nn.conversion.trace import Trace

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
    labels, lineage = trace.of(op.args[0]), trace.lineage(op.args[0])
    if lineage is not None and op.name != "glu" and isinstance(op.out, Tensor):
        for plane in lineage.planes:
            trace.reduce(plane)
        trace.descend(op.out, lineage)
        return
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
    lineage = trace.lineage(op.args[0])
    labels = None if lineage is not None else trace.of(op.args[0])
    if lineage is None and labels is None:
        return
    dim = op.argument(2 if op.name == "norm" else 1, "dim")
    if isinstance(dim, Tensor):
        tie_elementwise(trace, op.tensors, op.out)
        return
    dims = list(range(op.args[0].dim())) if dim is None else dim
    dims = [dims] if isinstance(dims, int) else list(dims)
    outs = [out for out in tree_leaves(op.out) if isinstance(out, Tensor)]
    if labels is not None:
        left = _left(trace, labels, dims)
        for out in outs:
            trace.put(out, left.reshape(out.shape) if out.numel() == left.numel() else None)
    elif lineage is not None:
        of_weight = lineage.each(lambda plane: _left(trace, plane, dims))
        for out in outs:
            if out.numel() == of_weight.planes[0].numel():
                reshaped = tuple(plane.reshape(out.shape) for plane in of_weight.planes)
                trace.descend(out, replace(of_weight, planes=reshaped))


def _left(trace: Trace, labels: Tensor, dims: list[int]) -> Tensor:
    """Return what labels are left after a reduction over dimensions, which stay as 1."""
    high, low = labels.amax(dims, keepdim=True), labels.amin(dims, keepdim=True)
    if bool((high != low).any()):
        trace.reduce(labels)
    return torch.where(high == low, high, NONE)
