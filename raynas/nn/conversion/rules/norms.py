"""Normalisations: weights and statistics go with the channels."""

from __future__ import annotations

from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.registry import rule, unknown
from raynas.nn.conversion.trace import Trace


@rule("layer_norm rms_norm batch_norm group_norm instance_norm")
def normalisation(trace: Trace, op: Operation) -> None:
    """Weights and statistics go with the channels; what is computed over channels is noted."""
    x = op.args[0]
    if trace.lineage(x) is not None:
        _of_weight(trace, op)
        return
    labels = trace.of(x)
    if labels is None:
        if trace.name(x) is not None:
            unknown(trace, op)
        return
    last = op.name in ("layer_norm", "rms_norm")
    vector = trace.channels(labels, -1 if last else 1)
    for tensor in op.tensors[1:]:
        name = trace.name(tensor)
        if name is not None and tensor.dim() == 1 and len(tensor) == len(vector):
            trace.labels.tie(vector, trace.node(name, 0))
    if last:
        shape = op.argument(1, "normalized_shape")
        if len(shape) > 1:
            trace.freeze(labels, "it is normalised over several dimensions")
        trace.follow(shape[-1], vector)
        trace.reduce(vector)
    if op.name == "group_norm":
        groups = op.argument(1, "num_groups")
        blocks = vector.view(groups, -1)
        if groups == 1:
            trace.reduce(vector)
        else:
            trace.labels.tie(blocks, blocks[:, :1])
            trace.follow(groups, blocks[:, 0])
    trace.put(op.out, labels)


def _of_weight(trace: Trace, op: Operation) -> None:
    """Normalise a weight, as standardised convolutions do: over all of its rows but one each."""
    x = op.args[0]
    lineage = trace.lineage(x)
    if lineage is None or op.name != "batch_norm":
        unknown(trace, op)
        return
    rows, at = trace.weight_labels(x, 1), lineage.along(1)
    for tensor in op.tensors[1:]:
        own = trace.weight_labels(tensor, 0) if tensor.dim() == 1 else None
        if own is not None and rows is not None:
            trace.labels.tie(rows, own)
    for other, plane in enumerate(lineage.planes):
        if other != at:
            trace.reduce(plane)
    trace.descend(op.out, lineage)


@rule("_weight_norm")
def weight_norm(trace: Trace, op: Operation) -> None:
    """Directions of a weight, and how long each row is."""
    direction, length = op.args[:2]
    lineage, dim = trace.lineage(direction), op.argument(2, "dim", 0)
    rows, own = trace.weight_labels(direction, dim), trace.weight_labels(length, dim)
    if lineage is None or rows is None or own is None:
        unknown(trace, op)
        return
    trace.labels.tie(rows, own)
    for plane in lineage.planes:  # of rows too: a direction of zeros is none
        trace.reduce(plane)
    trace.descend(op.out, lineage)
