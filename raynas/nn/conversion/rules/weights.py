"""Products with weights: inputs meet one dimension of a weight, the other is new channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raynas.nn.conversion.labels import differs_along, spread
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.attention import of_activations
from raynas.nn.conversion.rules.registry import fix, rule, unknown, untied
from raynas.nn.conversion.trace import Trace


@dataclass(frozen=True)
class Matrix:
    """A weight of a product, or what is made of weights and stands for one.

    Attributes:
        name: of the weight, None where it is made of several.
        made: labels of its channels that are made, shape (outputs,).
        met: labels of those that meet the input's, shape (inputs,).
    """

    name: str | None
    made: Tensor
    met: Tensor


def _matrix(trace: Trace, weight: Any, made: int, met: int | None) -> Matrix | None:
    """Return what a weight is whose dimensions these are; None if it is computed of inputs.

    In groups, the dimension that meets the input's channels has none of them to itself: None.
    """
    lineage = trace.lineage(weight)
    if lineage is None or weight.dim() < 2:
        return None
    for at in lineage.lost() if trace.name(weight) is None else ():
        for name in lineage.names:
            if trace.shapes[name][at] > 1:
                trace.freeze(trace.node(name, at), "its parts are chosen by number")
    rows = trace.weight_labels(weight, made)
    columns = untied(weight.shape[1]) if met is None else trace.weight_labels(weight, met)
    assert rows is not None
    assert columns is not None
    return Matrix(lineage.name, rows, columns)


@rule("linear")
def linear(trace: Trace, op: Operation) -> None:
    """Inputs meet the weight's columns; its rows are new channels."""
    x, weight, bias = op.args[0], op.argument(1, "weight"), op.argument(2, "bias")
    matrix = _matrix(trace, weight, 0, 1)
    if matrix is None:
        unknown(trace, op)
        return
    _multiplied(trace, x, matrix, bias, op.out)


def _multiplied(trace: Trace, x: Tensor, matrix: Matrix, bias: Any, out: Tensor) -> None:
    """Give the product of an input's last dimension with a weight its labels."""
    labels = trace.of(x)
    reads(trace, labels, -1, matrix.met)
    adds_bias(trace, bias, matrix.made)
    made = spread(matrix.made, out.shape, -1)
    trace.put(out, made)
    trace.multiply(made, matrix.met, weight=matrix.name)


def reads(trace: Trace, labels: Tensor | None, dim: int, met: Tensor) -> None:
    """Tie the channels of an input to what a weight meets them with."""
    if labels is None:
        trace.freeze(met, "it reads an input of the model")
    else:
        trace.labels.tie(trace.channels(labels, dim), met)


def adds_bias(trace: Trace, bias: Any, rows: Tensor) -> None:
    """Tie a bias, if there is one, to the channels that it is added to."""
    if not isinstance(bias, Tensor):
        return
    labels = trace.weight_labels(bias, -1)
    if labels is None:
        labels = trace.of(bias)
    if labels is None:
        trace.freeze(rows, "its bias is computed")
    else:
        trace.labels.tie(rows, labels)


@rule("conv1d conv2d conv3d")
def convolution(trace: Trace, op: Operation) -> None:
    """As ``linear``; in groups, what stands in one group stays together."""
    x, weight = op.args[0], op.argument(1, "weight")
    groups = op.argument(6, "groups", 1)
    matrix = _matrix(trace, weight, 0, 1 if groups == 1 else None)
    if matrix is None:
        fix(trace, op, f"the weight of {op.name} is computed of inputs")
        return
    labels, rows, met = trace.of(x), matrix.made, matrix.met
    taps = math.prod(weight.shape[2:])
    if groups == 1:
        reads(trace, labels, 1, met)
    else:
        _grouped(trace, labels, rows, groups)
    adds_bias(trace, op.argument(2, "bias"), rows)
    out = spread(rows, op.out.shape, 1)
    trace.put(op.out, out)
    trace.multiply(out, met, weight=matrix.name, taps=taps)


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
    matrix = _matrix(trace, weight, 1, 0)
    if matrix is None or groups != 1:
        unknown(trace, op)
        return
    reads(trace, trace.of(x), 1, matrix.met)
    adds_bias(trace, op.argument(2, "bias"), matrix.made)
    trace.put(op.out, spread(matrix.made, op.out.shape, 1))
    given = spread(matrix.met, x.shape, 1)
    trace.multiply(given, matrix.made, weight=matrix.name, taps=math.prod(weight.shape[2:]))


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
    matrix = _matrix(trace, weight, 1, 0)
    if matrix is None:
        unknown(trace, op)
        return
    _multiplied(trace, x, matrix, bias, op.out)


@rule("matmul bmm __matmul__ mm grouped_mm _grouped_mm")
def product(trace: Trace, op: Operation) -> None:
    """A product with a weight, or one for each of several experts, or of two activations."""
    a, b = op.args[:2]
    right, left = _matrix(trace, b, -1, -2), _matrix(trace, a, -2, -1)
    if right is not None and left is None and a.dim() > 1:
        _fix_experts(trace, b)
        _multiplied(trace, a, right, op.argument(3, "bias"), op.out)
    elif left is not None and right is None and b.dim() > 1 and not _varies(trace, b, -1):
        _fix_experts(trace, a)
        reads(trace, trace.of(b), -2, left.met)
        made = spread(left.made, op.out.shape, -2)
        trace.put(op.out, made)
        trace.multiply(made, left.met, weight=left.name)
    elif trace.lineage(a) is not None or trace.lineage(b) is not None or "grouped" in op.name:
        unknown(trace, op)
    else:
        of_activations(trace, a, b, op.out)


def _varies(trace: Trace, x: Tensor, dim: int) -> bool:
    labels = trace.of(x)
    return labels is not None and differs_along(labels, dim)


def _fix_experts(trace: Trace, weight: Tensor) -> None:
    """Let the number of matrices stay that lie one upon the other."""
    for dim in range(weight.dim() - 2):
        trace.freeze(trace.weight_labels(weight, dim), "its parts are chosen by number")
