"""A pass of a converted model: labels of channels, multiply-accumulates, and memory alive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from raynas.core.nest import Nest
from raynas.costs.meter import Meter, storage_key
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules import RULES
from raynas.nn.conversion.trace import Trace, counted

Counted = tuple[Tensor, Tensor]  # distinct labels, and how often each stands there


@dataclass(frozen=True)
class Product:
    """Multiply-accumulates of one operation: elements of its output times what each one meets.

    Attributes:
        within: paths of all modules that ran.
        weight: name of the weight, None for products of activations.
        elements: labels of the output's elements, and how often each stands there.
        met: likewise of the dimension that is summed over.
        taps: further factor, such as the size of a kernel.
    """

    within: tuple[str, ...]
    weight: str | None
    elements: Counted
    met: Counted
    taps: int


@dataclass
class Held:
    """Memory that a pass has held.

    Attributes:
        nbytes: its size.
        counted: labels of its numbers, None if they are not known.
        itemsize: bytes of one number.
    """

    nbytes: int
    counted: Counted | None = None
    itemsize: int = 0


@dataclass(frozen=True)
class Moment:
    """What was alive when memory was last taken.

    Attributes:
        held: positions among all that a pass has held.
        scopes: paths of the modules that ran.
    """

    held: tuple[int, ...]
    scopes: tuple[str, ...]


@dataclass
class MemoryLog(Meter):
    """A Meter that remembers what was alive, moment by moment.

    Attributes:
        held: all memory that was taken, in order.
        moments: after each operation that took some.
        scopes: paths of the modules that run, kept up to date by the trace.
        inputs_bytes: that are alive throughout.
    """

    held: list[Held] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    scopes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inputs_bytes = self._alive
        self._at: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, count it, and note what is alive if that is more."""
        before = len(self.held)
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if len(self.held) > before:
            self.moments.append(Moment(tuple(self._at.values()), self.scopes))
        return out

    def _hold(self, tensor: Tensor) -> None:
        key, before = storage_key(tensor), self._alive
        super()._hold(tensor)
        if self._alive > before:
            self._at[key] = len(self.held)
            self.held.append(Held(self._alive - before))

    def _release(self, key: int, size: int) -> None:
        super()._release(key, size)
        self._at.pop(key, None)

    def describe(self, tensor: Tensor, labels: Tensor) -> None:
        """Note the labels of memory that a tensor fills."""
        at = self._at.get(storage_key(tensor))
        if at is None or self.held[at].counted is not None:
            return
        held = self.held[at]
        if tensor.numel() * tensor.element_size() == held.nbytes:
            held.counted, held.itemsize = counted(labels), tensor.element_size()


class CostTrace(Trace):
    """A Trace that also watches memory, and keeps where products arise.

    Args:
        model: that runs.
        example: its inputs.

    Attributes:
        log: of its memory.
        products: multiply-accumulates.
    """

    def __init__(self, model: nn.Module, example: Nest) -> None:
        super().__init__(model, RULES)
        self.log = MemoryLog(example)
        self.products: list[Product] = []

    def opened(self, path: str, args: Any, kwargs: Any) -> None:
        """Note that a module's call begins."""
        super().opened(path, args, kwargs)
        self.log.scopes = self.scopes

    def closed(self, _module: nn.Module, _args: Any, out: Any) -> None:
        """Note that a module's call ends."""
        super().closed(_module, _args, out)
        self.log.scopes = self.scopes

    def ended(self, out: Any) -> None:
        """Look at labels when the run is over, unwatched: they are no memory of the pass."""
        with self.log.paused():
            super().ended(out)

    def multiply(
        self, elements: Tensor, met: Tensor, *, weight: str | None = None, taps: int = 1
    ) -> None:
        """Note the multiply-accumulates of an operation."""
        self.products.append(Product(self.scopes, weight, counted(elements), counted(met), taps))

    def follow_labels(self, operation: Operation) -> None:
        """Apply the rule of an operation, unwatched, and note the labels of what it made."""
        with self.log.paused():
            super().follow_labels(operation)
            for leaf in tree_leaves(operation.out):
                labels = self.of(leaf)
                if labels is not None:
                    self.log.describe(leaf, labels)


def traced(model: nn.Module, example: Nest) -> CostTrace:
    """Run a plain model once on a batch of one, in the mode that it is in."""
    trace = CostTrace(model, example)
    with torch.no_grad(), trace.log:
        trace.run(model, example)
    return trace
