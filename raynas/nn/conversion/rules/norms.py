"""Normalisations: weights and statistics go with the channels."""

from __future__ import annotations

from raynas.nn.conversion.rules.registry import rule, unknown
from raynas.nn.conversion.trace import Operation, Trace


@rule("layer_norm rms_norm batch_norm group_norm instance_norm")
def normalisation(trace: Trace, op: Operation) -> None:
    """Weights and statistics go with the channels; what is computed over channels is noted."""
    x = op.args[0]
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
