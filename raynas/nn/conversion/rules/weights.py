"""Products with weights: inputs meet one dimension of a weight, the other is new channels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from raynas.nn.conversion.labels import spread
from raynas.nn.conversion.rules.attention import of_activations
from raynas.nn.conversion.rules.registry import fix, rule, unknown, untied
from raynas.nn.conversion.trace import Operation, Trace


@rule("linear")
def linear(trace: Trace, op: Operation) -> None:
    """Inputs meet the weight's columns; its rows are new channels."""
    x, weight, bias = op.args[0], op.argument(1, "weight"), op.argument(2, "bias")
    name = trace.name(weight)
    if name is None:
        unknown(trace, op)
        return
    labels, rows = trace.of(x), trace.node(name, 0)
    _reads(trace, labels, -1, trace.node(name, 1))
    _bias(trace, bias, rows)
    out = spread(rows, op.out.shape, -1)
    trace.put(op.out, out)
    trace.multiply(out, trace.node(name, 1), weight=name)


def _reads(trace: Trace, labels: Tensor | None, dim: int, met: Tensor) -> None:
    """Tie the channels of an input to what a weight meets them with."""
    if labels is None:
        trace.freeze(met, "it reads an input of the model")
    else:
        trace.labels.tie(trace.channels(labels, dim), met)


def _bias(trace: Trace, bias: Any, rows: Tensor) -> None:
    name = trace.name(bias)
    if name is not None:
        trace.labels.tie(rows, trace.node(name, 0))
    elif isinstance(bias, Tensor):
        labels = trace.of(bias)
        if labels is None:
            trace.freeze(rows, "its bias is computed")
        else:
            trace.labels.tie(rows, labels)


@rule("conv1d conv2d conv3d")
def convolution(trace: Trace, op: Operation) -> None:
    """As ``linear``; in groups, what stands in one group stays together."""
    x, weight = op.args[0], op.argument(1, "weight")
    groups, name = op.argument(6, "groups", 1), trace.name(weight)
    if name is None:
        fix(trace, op, f"the weight of {op.name} is computed, as standardised weights are")
        return
    labels, rows = trace.of(x), trace.node(name, 0)
    taps = math.prod(weight.shape[2:])
    if groups == 1:
        met = trace.node(name, 1)
        _reads(trace, labels, 1, met)
    else:
        met = untied(weight.shape[1])
        _grouped(trace, labels, rows, groups)
    _bias(trace, op.argument(2, "bias"), rows)
    out = spread(rows, op.out.shape, 1)
    trace.put(op.out, out)
    trace.multiply(out, met, weight=name, taps=taps)


def _grouped(trace: Trace, labels: Tensor | None, rows: Tensor, groups: int) -> None:
    if labels is None:
        trace.freeze(rows, "a convolution in groups reads the model's input")
        return
    blocks = [trace.channels(labels, 1).view(groups, -1), rows.view(groups, -1)]
    joined = torch.cat(blocks, 1)
    trace.labels.tie(joined, joined[:, :1])
    trace.follow(groups, joined[:, -1])


@rule("conv_transpose1d conv_transpose2d conv_transpose3d")
def transposed(trace: Trace, op: Operation) -> None:
    """As a convolution, its weight's first two dimensions exchanged."""
    x, weight, groups = op.args[0], op.argument(1, "weight"), op.argument(6, "groups", 1)
    name, labels = trace.name(weight), trace.of(x)
    if name is None or groups != 1:
        unknown(trace, op)
        return
    _reads(trace, labels, 1, trace.node(name, 0))
    columns = trace.node(name, 1)
    _bias(trace, op.argument(2, "bias"), columns)
    trace.put(op.out, spread(columns, op.out.shape, 1))
    given = spread(trace.node(name, 0), x.shape, 1)
    trace.multiply(given, columns, weight=name, taps=math.prod(weight.shape[2:]))


@rule("embedding")
def embedding(trace: Trace, op: Operation) -> None:
    """The weight's columns are new channels."""
    name = trace.name(op.argument(1, "weight"))
    if name is None:
        unknown(trace, op)
        return
    trace.freeze(trace.node(name, 0), "its rows are looked up by number")
    trace.put(op.out, spread(trace.node(name, 1), op.out.shape, -1))


@rule("addmm")
def affine(trace: Trace, op: Operation) -> None:
    """A bias and a product with a weight whose rows are inputs."""
    bias, x, weight = op.args[:3]
    name = trace.name(weight)
    if name is None:
        unknown(trace, op)
        return
    _reads(trace, trace.of(x), -1, trace.node(name, 0))
    columns = trace.node(name, 1)
    _bias(trace, bias, columns)
    out = spread(columns, op.out.shape, -1)
    trace.put(op.out, out)
    trace.multiply(out, trace.node(name, 0), weight=name)


@rule("matmul bmm __matmul__ mm")
def product(trace: Trace, op: Operation) -> None:
    """A product with a weight, or of two activations."""
    a, b = op.args[:2]
    name = trace.name(b)
    if name is not None and b.dim() == 2:
        _reads(trace, trace.of(a), -1, trace.node(name, 0))
        out = spread(trace.node(name, 1), op.out.shape, -1)
        trace.put(op.out, out)
        trace.multiply(out, trace.node(name, 0), weight=name)
        return
    if trace.name(a) is not None or name is not None:
        unknown(trace, op)
        return
    of_activations(trace, a, b, op.out)
