"""Watching a forward pass: multiply-accumulates per operation, and bytes alive."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raynas.core.nest import Nest, leaves
from raynas.nn.evaluation_mode import evaluation_mode

aten = torch.ops.aten


def _matmul(a: Tensor, b: Tensor) -> int:
    return prod(a.shape) * b.shape[-1]


def _convolution(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    # each output (input, if transposed) element meets weight[0] numbers
    return prod((x if transposed else out).shape) * prod(weight.shape[1:])


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _recurrent(x: Tensor, weights: Sequence[Tensor]) -> int:
    # every step of every sequence meets all matrices of the layer
    return prod(x.shape[:-1]) * sum(weight.numel() for weight in weights if weight.dim() == 2)


Formula = Callable[[Sequence[Any], Any], int]
MACS: dict[Any, Formula] = {
    aten.mm: lambda args, _: _matmul(args[0], args[1]),
    aten.bmm: lambda args, _: _matmul(args[0], args[1]),
    aten.addmm: lambda args, _: _matmul(args[1], args[2]),
    aten.baddbmm: lambda args, _: _matmul(args[1], args[2]),
    aten.mv: lambda args, _: prod(args[0].shape),
    aten.addmv: lambda args, _: prod(args[1].shape),
    aten.dot: lambda args, _: args[0].numel(),
    aten.vdot: lambda args, _: args[0].numel(),
    aten.mkldnn_rnn_layer: lambda args, _: _recurrent(args[0], args[1:3]),
    aten._cudnn_rnn: lambda args, _: _recurrent(args[0], args[1]),
    aten._grouped_mm: lambda args, _: _matmul(args[0], args[1]),  # each row meets one of several
    aten.convolution: lambda args, out: _convolution(args[0], args[1], out, bool(args[6])),
}
for _attend in (
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
):
    MACS[_attend] = lambda args, _: _attention(args[0], args[1], args[2])

# these move weights, or work on them one by one or as a whole, without multiplying by an input
HARMLESS = (
    *(aten.embedding, aten.index_select, aten.gather, aten.index, aten.cat, aten.stack),
    *(aten.clone, aten.copy_, aten._to_copy, aten.constant_pad_nd, aten.sum, aten.mean),
    *(aten.linalg_vector_norm, aten.norm, aten.amax, aten.max, aten._weight_norm_interface),
)
_reported: set[str] = set()


class UncountedOperation(UserWarning):
    """An operation with weights whose multiply-accumulates no rule counts."""


# their further outputs serve training; which of them evaluation makes depends on the device
FIRST_ONLY = (aten.native_batch_norm, aten.cudnn_batch_norm, aten.miopen_batch_norm)


@dataclass
class Tally:
    """Counts of a part of a pass."""

    macs: int = 0
    peak_bytes: int = 0


@dataclass
class Meter(TorchDispatchMode):
    """Counts while it is entered; parts are told apart by ``part``.

    Args:
        example: the inputs, which count as alive throughout.
    """

    example: Nest
    total: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stack = [self.total]
        # of their own size: their storage may be that of a whole data set
        self._alive = self.total.peak_bytes = sum(leaf.nbytes for leaf in leaves(self.example))
        self._counted = {storage_key(leaf) for leaf in leaves(self.example)}
        self._paused = False

    @contextmanager
    def part(self) -> Iterator[Tally]:
        """Count what follows in a tally of its own instead of the enclosing one's."""
        tally = Tally(peak_bytes=self._alive)
        self._stack.append(tally)
        try:
            yield tally
        finally:
            self._stack.pop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing that happens within; what it makes counts as weights."""
        self._paused, before = True, self._paused
        try:
            yield
        finally:
            self._paused = before

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of torch's compiler, seconds long, which nothing here is run under."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count it."""
        out = func(*args, **(kwargs or {}))
        if self._paused:
            return out
        tally = self._stack[-1]
        formula = MACS.get(func.overloadpacket)
        if formula is not None:
            tally.macs += formula(args, out)
        elif func.overloadpacket not in HARMLESS:
            _report_unknown(func, args, out)
        given = {storage_key(leaf) for leaf in tensors_in((args, kwargs))}
        held = out[0] if func.overloadpacket in FIRST_ONLY else out
        for leaf in tensors_in(held):
            if storage_key(leaf) not in given:  # a view of a weight holds nothing
                self._hold(leaf)
        tally.peak_bytes = max(tally.peak_bytes, self._alive)
        return out

    def _hold(self, tensor: Tensor) -> None:
        """Count a tensor's storage as alive until it is freed; views and in-place share theirs."""
        storage, key = tensor.untyped_storage(), storage_key(tensor)
        if key not in self._counted:
            size = storage.nbytes()
            self._counted.add(key)
            self._alive += size
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._counted.discard(key)
        self._alive -= size


def _report_unknown(func: Any, args: Any, out: Any) -> None:
    """Warn, once for each, of an operation that meets matrices of weights and has no formula."""
    name = str(func.overloadpacket)
    if name in _reported or torch.Tag.pointwise in func.tags:
        return
    weights = [t for t in tensors_in(args) if isinstance(t, nn.Parameter) and t.dim() > 1]
    held = {storage_key(leaf) for leaf in tensors_in(out)}
    if weights and not any(storage_key(weight) in held for weight in weights):  # no view of one
        _reported.add(name)
        warnings.warn(
            f"the multiply-accumulates of {name} are not counted: no rule knows this operation",
            UncountedOperation,
            stacklevel=2,
        )


def tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def storage_key(tensor: Tensor) -> int:
    """Return what tells a tensor's memory from other memory in use."""
    key: int = tensor.untyped_storage()._cdata
    return key


@contextmanager
def evaluating(model: nn.Module, *, fused: bool = False) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and each module back afterwards.

    Args:
        model: any module.
        fused: whether a layer may hide its products in one operation, where they are not counted.
    """
    fused_before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fused_before and fused)
    try:
        with evaluation_mode(model), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_before)
