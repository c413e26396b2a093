"""PyTorch's own attention, which is one operation: projections, heads and all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raynas.nn.conversion.labels import spread
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.registry import rule, untied
from raynas.nn.conversion.rules.weights import adds_bias, reads
from raynas.nn.conversion.trace import Trace

UNUSUAL = "PyTorch's MultiheadAttention of other widths of keys or with biases of them"
# by place: bias_k, bias_v, add_zero_attn
EXTRAS = {7: "bias_k", 8: "bias_v", 9: "add_zero_attn"}


@rule("multi_head_attention_forward")
def fused_attention(trace: Trace, op: Operation) -> None:
    """Heads go as a whole; it runs only where the width that it reads loses as much.

    Both are found here as axes of their own; that they have to go together is seen by trying.
    """
    query, key, value, width, heads, weight, bias = op.args[:7]
    name, out_name = trace.name(weight), trace.name(op.argument(11, "out_proj_weight"))
    unusual = any(op.argument(at, extra) not in (None, False) for at, extra in EXTRAS.items())
    if name is None or out_name is None or unusual:
        _fix(trace, op)
        return
    rows = trace.node(name, 0).view(3, heads, -1)
    columns, out_columns = trace.node(name, 1), trace.node(out_name, 1)
    for x in (query, key, value):
        reads(trace, trace.of(x), -1, columns)
    of_heads = torch.cat([*rows, out_columns.view(heads, -1)], 1)
    trace.labels.tie(of_heads, of_heads[:, :1])
    trace.attended.append(torch.unique(of_heads))
    trace.follow(heads, of_heads[:, 0])
    trace.follow(width, columns)
    adds_bias(trace, bias, rows.flatten())
    made = trace.node(out_name, 0)
    adds_bias(trace, op.argument(12, "out_proj_bias"), made)
    trace.put(op.out[0], spread(made, op.out[0].shape, -1))
    _multiply(trace, op, rows, (columns, out_columns, made))


def _multiply(trace: Trace, op: Operation, rows: Tensor, others: tuple[Tensor, ...]) -> None:
    """Note the products inside: of three projections, of scores and values, and of the last."""
    query, key = op.args[:2]
    columns, out_columns, made = others
    parts, heads, size = rows.shape
    for x, part in zip((query, key, key), range(parts), strict=True):
        trace.multiply(spread(rows[part].flatten(), x.shape, -1), columns)
    batch = query.shape[1] if query.dim() > 2 else 1
    shape = (batch, heads, len(query), len(key))
    trace.multiply(spread(rows[0, :, 0], shape, 1), untied(size))
    trace.multiply(spread(rows[2].flatten(), query.shape, -1), untied(len(key)))
    trace.multiply(spread(made, query.shape, -1), out_columns)


def _fix(trace: Trace, op: Operation) -> None:
    for tensor in op.tensors:
        trace.freeze(trace.of(tensor), UNUSUAL)
        name: Any = trace.name(tensor)
        if name is not None:
            trace.freeze_named(name, UNUSUAL)
