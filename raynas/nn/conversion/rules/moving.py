"""Movements: what happens to a tensor happens to its labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from raynas.nn.conversion.labels import NONE
from raynas.nn.conversion.lineage import Lineage
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.counting import follow_shape
from raynas.nn.conversion.rules.pointwise import of_named
from raynas.nn.conversion.rules.registry import or_none, rule
from raynas.nn.conversion.trace import Trace

MOVED = """
    view reshape permute transpose flatten unflatten contiguous chunk split unbind narrow
    select __getitem__ expand repeat cat concat stack squeeze unsqueeze roll movedim
    swapaxes clone expand_as t repeat_interleave flip tile view_as reshape_as
    split_with_sizes tensor_split broadcast_to hstack concatenate index_select pixel_shuffle
    pixel_unshuffle pad constant_pad_nd unfold channel_shuffle swapdims moveaxis
    native_channel_shuffle vstack dstack gather index
"""


CAST = "to type float half double bfloat16 type_as detach cpu cuda"


@rule(CAST)
def cast(trace: Trace, op: Operation) -> None:
    """Another type, the same channels."""
    source = op.args[0]
    lineage = trace.lineage(source)
    if lineage is not None:
        trace.descend(op.out, lineage)
        return
    name, labels = trace.name(source), trace.of(source)
    if name is not None and labels is None and source.is_floating_point() and source.dim():
        labels = of_named(trace, name, source, None)
    trace.put(op.out, labels)
    trace.passes(op.out, source)


@rule(MOVED)
def movement(trace: Trace, op: Operation) -> None:
    """The same movement of the labels."""
    sources = [x for x in op.tensors if trace.of(x) is not None or _is_weight(trace, x)]
    if not sources:
        _keep_sizes(trace, op)
        return
    if not _move_weights(trace, op):
        try:
            moved = _moved(op, lambda x: _movable(trace, x))
        except Exception as error:
            why = f"{op.name} of it is not understood ({str(error).splitlines()[0][:60]})"
            for source in sources:
                trace.freeze(_movable(trace, source), why)
            return
        for out, labels in zip(tree_leaves(op.out), tree_leaves(moved), strict=True):
            trace.put(out, labels)
    follow_shape(trace, op)
    if isinstance(op.out, Tensor) and len(sources) == 1:
        trace.passes(op.out, sources[0])


def _moved(op: Operation, labels_of: Callable[[Tensor], Tensor]) -> Any:
    """Return what becomes of labels, where the tensors of an operation have these."""
    args, kwargs = tree_map_only(Tensor, labels_of, (op.args, op.kwargs))
    if op.name in ("pad", "constant_pad_nd"):
        args, kwargs = args[:2], {k: v for k, v in kwargs.items() if k == "pad"}
        mode = op.argument(2, "mode")
        if isinstance(mode, str) and mode != "constant":  # what is put there has no labels
            kwargs["mode"] = mode
    if op.name in ("view_as", "expand_as", "reshape_as"):
        args = (args[0], op.out)
    return op.function(*args, **kwargs)


def _move_weights(trace: Trace, op: Operation) -> bool:
    """Move what weights lie where in tensors that are made of them alone; else return False."""
    numbers = [x for x in op.tensors if x.is_floating_point()]
    lineages = [trace.lineage(x) for x in numbers]
    made = [lineage for lineage in lineages if lineage is not None]
    sizes = {len(lineage.planes) for lineage in made}
    unlike = any(
        one is None and trace.of(x) is not None for one, x in zip(lineages, numbers, strict=True)
    )
    if not made or len(sizes) > 1 or unlike:
        return False
    names = tuple(dict.fromkeys(name for lineage in made for name in lineage.names))
    try:
        planes = [tree_leaves(_moved(op, partial(_plane, trace, at))) for at in range(sizes.pop())]
    except Exception:  # said where all labels are moved
        return False
    for out, *of_out in zip(tree_leaves(op.out), *planes, strict=True):
        trace.descend(out, Lineage(names, tuple(of_out)))
    return True


def _plane(trace: Trace, at: int, x: Tensor) -> Tensor:
    lineage = trace.lineage(x)
    if lineage is not None:
        return lineage.planes[at]
    return torch.zeros((), dtype=torch.long).expand(x.shape) if x.is_floating_point() else x


def _keep_sizes(trace: Trace, op: Operation) -> None:
    """Let a part of a tensor that was created keep the sizes that it has still."""
    source = next(iter(op.tensors), None)
    if isinstance(op.out, Tensor) and source is not None and op.out.dim() == source.dim():
        sizes = trace.sizes(source)
        trace.created(op.out, {d: n for d, n in sizes.items() if op.out.shape[d] == n})


def _is_weight(trace: Trace, x: Tensor) -> bool:
    return isinstance(x, torch.nn.Parameter) and x.is_floating_point() and trace.name(x) is not None


def _movable(trace: Trace, x: Tensor) -> Tensor:
    labels = trace.of(x)
    if labels is not None:
        return labels
    if _is_weight(trace, x) and x.dim():
        own: Tensor = of_named(trace, str(trace.name(x)), x, None)
        return own
    if x.is_floating_point():
        return torch.zeros((), dtype=torch.long).expand(x.shape)
    return x


@rule("__setitem__")
def written(trace: Trace, op: Operation) -> None:
    """The same writing into the labels."""
    target, where, value = op.args
    labels, given = trace.of(target), trace.of(value)
    if labels is None and given is None:
        return
    whole = or_none(trace, target).clone()
    whole[where] = given if given is not None else NONE
    trace.put(target, whole)
