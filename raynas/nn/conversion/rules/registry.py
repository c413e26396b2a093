"""Where rules are registered, and those for what is no arithmetic of channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.trace import Trace

Rule = Callable[[Trace, Operation], None]
RULES: dict[str, Rule] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a rule under the names of operations, which blanks divide."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


def or_none(trace: Trace, x: Tensor) -> Tensor:
    """Return a tensor's labels, ``NONE`` everywhere if it has none."""
    labels = trace.of(x)
    return torch.zeros((), dtype=torch.long).expand(x.shape) if labels is None else labels


def untied(count: int) -> Tensor:
    """Return labels of positions that are always kept, shape (count,)."""
    return torch.zeros(count, dtype=torch.long)


@rule(
    """
    size dim numel is_floating_point stride __set__ __len__ __bool__ item tolist __eq__
    __ne__ __lt__ __gt__ __le__ __ge__ is_contiguous data_ptr zeros_like
    ones_like arange get_device is_complex all any cumsum triu tril __and__
    __or__ __invert__ bool logical_not long int eq ne argmax isinf isnan __hash__
    full_like __index__ __contains__ _assert is_nested register_hook gt lt le
    ge bitwise_and tensor as_tensor logical_and __format__ __repr__ is_inference linspace
    get_default_dtype has_torch_function equal allclose new_tensor finfo
    is_sparse ndimension nelement element_size storage_offset is_conj is_neg bucketize
    __len__ _is_view is_shared untyped_storage meshgrid logical_or masked_select nonzero
    """
)
def ignored(_trace: Trace, _operation: Operation) -> None:
    """Numbers, masks and questions: nothing of channels."""


@rule("zeros ones full empty new_zeros new_ones new_full new_empty")
def created(trace: Trace, op: Operation) -> None:
    """A new tensor: a whole number among its sizes may count the channels that it will meet."""
    first = 1 if op.name.startswith("new_") else 0
    sizes = op.argument(first, "size", ())
    listed = sizes if isinstance(sizes, tuple | list) else op.args[first:]
    trace.created(op.out, {at - len(listed): size for at, size in enumerate(listed)})


@rule("__get__")
def attribute(trace: Trace, op: Operation) -> None:
    """``x.T``, ``x.mT``, ``x.data`` and other attributes that are tensors."""
    source, out = op.args[0], op.out
    lineage = trace.lineage(source)
    if lineage is not None and isinstance(out, Tensor):
        if out.shape == source.shape:
            trace.descend(out, lineage)
        elif source.dim() > 1 and out.shape == source.mT.shape:
            trace.descend(out, lineage.each(lambda plane: plane.mT))
        return
    labels = trace.of(source)
    if labels is None or not isinstance(out, Tensor):
        return
    if out.shape == source.shape:
        trace.put(out, labels)
    elif out.shape == source.mT.shape:
        trace.put(out, labels.mT)
    else:
        trace.freeze(labels, "an attribute of a tensor is read")


@rule("unknown")
def unknown(trace: Trace, op: Operation) -> None:
    """What no rule knows fixes all that it touches."""
    fix(trace, op, f"{op.name} is not understood")


def fix(trace: Trace, op: Operation, reason: str) -> None:
    """Fix all channels that an operation touches, for a reason."""
    outs = [x for x in tree_leaves(op.out) if isinstance(x, Tensor)]
    labelled = [x for x in op.tensors if trace.of(x) is not None]
    named = [name for x in op.tensors for name in _names(trace, x)]
    if not outs or not (labelled or named):
        return
    if not named and len(labelled) == len(outs) == 1 and labelled[0].shape == outs[0].shape:
        trace.put(outs[0], trace.of(labelled[0]))  # taken to be pointwise, which is tried later
        return
    for x in labelled:
        if trace.lineage(x) is None:
            trace.freeze(trace.of(x), reason)
    for name in named:
        trace.freeze_named(name, reason)


def _names(trace: Trace, x: Tensor) -> tuple[str, ...]:
    """Return the names of the parameters and buffers that a tensor is, or is made of."""
    lineage, name = trace.lineage(x), trace.name(x)
    return lineage.names if lineage is not None else () if name is None else (name,)
