"""Whole numbers in the arguments of movements that count channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from raynas.nn.conversion.counts import TracedInt
from raynas.nn.conversion.labels import NONE, Parts, along, compact, differs_along
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.trace import Trace


def follow_shape(trace: Trace, op: Operation) -> None:
    """Note the whole numbers in a shape that count channels."""
    sizes: Iterable[Any] = ()
    if op.name in ("view", "reshape", "expand", "broadcast_to"):
        sizes = op.args[1:] if op.name != "broadcast_to" else op.args[1]
        if len(op.args) == 2 and isinstance(op.args[1], tuple | list):
            sizes = op.args[1]
        elif "size" in op.kwargs or "shape" in op.kwargs:
            sizes = op.kwargs.get("size", op.kwargs.get("shape", ()))
        _follow_sizes(trace, op.out, list(enumerate(sizes)))
        _note_rectangles(trace, op)
    elif op.name == "unflatten":
        dim = op.argument(1, "dim") % op.args[0].dim()
        sizes = op.argument(2, "sizes")
        _follow_sizes(trace, op.out, [(dim + at, size) for at, size in enumerate(sizes)])
    elif op.name in ("split", "split_with_sizes", "narrow"):
        _follow_parts(trace, op)
    elif op.name == "__getitem__":
        _follow_slices(trace, op)
    elif op.name == "chunk":
        dim = op.argument(2, "dim", 0)
        vectors = [_of_dim(trace, part, dim % part.dim()) for part in op.out]
        rows = [vector for vector in vectors if vector is not None]
        if len({len(row) for row in rows}) == 1 and len(rows) > 1:
            trace.rectangles.append(Parts(torch.stack(rows), in_turns=False))


def _follow_sizes(trace: Trace, out: Tensor, sizes: list[tuple[int, Any]]) -> None:
    for dim, size in sizes:
        if isinstance(size, TracedInt) and dim < out.dim():
            vector = _of_dim(trace, out, dim)
            if vector is not None:
                trace.follow(size, vector)


def _of_dim(trace: Trace, x: Tensor, dim: int) -> Tensor | None:
    """Return the labels along a dimension of a tensor, or of a weight; None without any."""
    if trace.lineage(x) is not None:
        return trace.weight_labels(x, dim)
    labels = trace.of(x)
    return None if labels is None else _vector(labels, dim)


def _note_rectangles(trace: Trace, op: Operation) -> None:
    """Note the two neighbouring dimensions into which channels were split."""
    if trace.lineage(op.out) is not None:
        return
    labels = trace.of(op.out)
    if labels is None or op.out.dim() <= op.args[0].dim():
        return
    few = compact(labels)
    for dim in range(few.dim() - 1):
        if few.shape[dim] > 1 and few.shape[dim + 1] > 1:
            matrix = few.movedim((dim, dim + 1), (0, 1)).flatten(2)[:, :, 0]
            known = matrix != NONE
            matrix = matrix[known.any(1)][:, known.any(0)]  # the rest is padding
            if differs_along(matrix, 0) and differs_along(matrix, 1):
                trace.rectangles.append(Parts(matrix, in_turns=True))


def _follow_parts(trace: Trace, op: Operation) -> None:
    dim = op.argument(2, "dim", 0) if op.name != "narrow" else op.argument(1, "dim")
    sizes = op.argument(1, "split_size") if op.name != "narrow" else op.argument(3, "length")
    parts = tree_leaves(op.out)
    listed = sizes if isinstance(sizes, tuple | list) else [sizes] * len(parts)
    for part, size in zip(parts, listed, strict=False):
        vector = _of_dim(trace, part, dim % part.dim())
        if vector is not None and part.shape[dim] == int(size):
            trace.follow(size, vector)


def _follow_slices(trace: Trace, op: Operation) -> None:
    source, where = op.args
    listed = where if isinstance(where, tuple) else (where,)
    if any(isinstance(x, Tensor) for x in listed) or not _has_numbers(listed):
        return
    consumed = [x for x in listed if x is not None and x is not Ellipsis]
    dim = 0
    for entry in listed:
        if entry is Ellipsis:
            dim += source.dim() - len(consumed)
        elif entry is not None:
            for bound in (entry.start, entry.stop) if isinstance(entry, slice) else ():
                vector = _of_dim(trace, source, dim)
                if vector is not None and bound is not None and int(bound) > 0:
                    trace.follow(bound, vector[: int(bound)])
            dim += 1


def _has_numbers(listed: tuple[Any, ...]) -> bool:
    bounds = [x for s in listed if isinstance(s, slice) for x in (s.start, s.stop)]
    return any(isinstance(bound, TracedInt) for bound in bounds)


def _vector(labels: Tensor, dim: int) -> Tensor:
    """Return the labels along a dimension, those of one row of what else there is."""
    rows = along(labels, dim)
    rows = rows.expand(labels.shape[dim], -1)
    return rows[:, int((rows != NONE).sum(0).argmax())]
