"""One run of a model, in which labels of channels are carried along with its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from raynas.core.nest import Nest, call
from raynas.nn.conversion.calls import Calls
from raynas.nn.conversion.counts import Monomials, TracedInt, traced_counts
from raynas.nn.conversion.labels import Labels, Parts, along, compact, spread
from raynas.nn.conversion.lineage import Lineage
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.results import results

Place = tuple[str, int]  # a tensor's name in the model, and one of its dimensions
# what is read of a tensor, and holds no channels
PLAIN = (bool, int, float, str, torch.Size, torch.dtype, torch.device, torch.layout)


@dataclass(frozen=True)
class Follows:
    """A whole number that counts positions along a labelled dimension.

    Attributes:
        monomials: sums and products of attributes that it was computed as.
        value: as the model has it.
        labels: at the positions, shape (positions,).
    """

    monomials: Monomials
    value: int
    labels: Tensor


@dataclass
class Known:
    """What is known of a tensor while it lives.

    Attributes:
        labels: of its channels, None without any.
        lineage: what it is made of, where that is weights alone.
        number: by which it is known when it is gone; 0 as long as nobody asks.
        sizes: whole numbers of modules among its sizes, by dimension from the end.
    """

    labels: Tensor | None = None
    lineage: Lineage | None = None
    number: int = 0
    sizes: Mapping[int, Any] = field(default_factory=dict)


class Trace(Calls, TorchFunctionMode):
    """What is seen while a model runs; rules say what each operation means for labels.

    Args:
        model: that runs.
        rules: from an operation's name to what it does.

    Attributes:
        labels: handed out so far.
        nodes: labels of the parameters' and statistics' dimensions that were met.
        frozen: labels that must stay, with the reason.
        reduced: labels over which something was averaged, normalised or summed up.
        attended: labels of heads, whose channels met each other.
        rectangles: channels that were split into equal parts.
        follows: whole numbers that count channels.
        scored: by module, the keys that its queries met last, as ``cached`` has them.
        cached: labels of keys and values of causal attention, with how many there are of each.
        dtypes: of the numbers that it computed with, floating-point ones.
    """

    def __init__(self, model: nn.Module, rules: dict[str, Any]) -> None:
        super().__init__()
        self.labels = Labels()
        self.nodes: dict[Place, Tensor] = {}
        self.frozen: list[tuple[Tensor, str]] = []
        self.reduced: list[Tensor] = []
        self.attended: list[Tensor] = []
        self.rectangles: list[Parts] = []
        self.follows: list[Follows] = []
        self.scored: dict[str, tuple[Tensor, Tensor]] = {}
        self.cached: list[tuple[str, tuple[Tensor, Tensor]]] = []
        self.dtypes: set[torch.dtype] = set()
        self._rules = rules
        self._known: Any = WeakTensorKeyDictionary()
        self._reserved: dict[Place, Tensor] = {}
        self._count = 0
        self._names: dict[int, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._held = [*model.parameters(), *model.buffers()]  # or their identities may return
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._names.setdefault(id(tensor), name)
            self.shapes[name] = tuple(tensor.shape)

    # what rules ask and say

    def _of(self, tensor: Any) -> Known:
        """Return what is known of a tensor; nothing is remembered that is written there."""
        known: Known | None = self._known.get(tensor) if isinstance(tensor, Tensor) else None
        return Known() if known is None else known

    def _noting(self, tensor: Tensor) -> Known:
        """Return what is known of a tensor, to be written to."""
        known: Known | None = self._known.get(tensor)
        if known is None:
            known = self._known[tensor] = Known()
        return known

    def of(self, tensor: Any) -> Tensor | None:
        """Return a tensor's labels, None if it has none; of one made of weights, by their last."""
        known = self._of(tensor)
        if known.labels is None and known.lineage is not None:
            return known.lineage.last
        return known.labels

    def lineage(self, tensor: Any) -> Lineage | None:
        """Return what a tensor that is a weight, or is made of weights alone, is made of."""
        known, name = self._of(tensor), self.name(tensor)
        if known.labels is not None or name is None:
            return known.lineage if known.labels is None else None
        if not (isinstance(tensor, nn.Parameter) and tensor.is_floating_point() and tensor.dim()):
            return None
        dims = range(tensor.dim())
        return Lineage((name,), tuple(spread(self._own(name, d), tensor.shape, d) for d in dims))

    def descend(self, tensor: Any, lineage: Lineage) -> None:
        """Note what a tensor is made of."""
        if isinstance(tensor, Tensor):
            self._noting(tensor).lineage = lineage

    def weight_labels(self, tensor: Tensor, dim: int) -> Tensor | None:
        """Return the labels along a dimension of a weight, or of what is made of weights alone."""
        lineage, name = self.lineage(tensor), self.name(tensor)
        if lineage is None:
            return None
        if name is not None:
            return self.node(name, dim % tensor.dim())
        at = lineage.along(dim)
        if at is None:
            return torch.zeros(tensor.shape[dim], dtype=torch.long)
        for source in lineage.names:
            self.node(source, at)
        plane = lineage.planes[at]
        return plane if plane.dim() == 1 else self.channels(plane, dim)

    def name(self, tensor: Any) -> str | None:
        """Return the name of a parameter or buffer, None for other tensors."""
        return self._names.get(id(tensor)) if isinstance(tensor, Tensor) else None

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor, by which it is known when it is gone."""
        known = self._noting(tensor)
        if not known.number:
            self._count += 1
            known.number = self._count
        return known.number

    def put(self, tensor: Any, labels: Tensor | None) -> None:
        """Give a tensor its labels."""
        if isinstance(tensor, Tensor) and labels is not None:
            self._noting(tensor).labels = labels

    def created(self, tensor: Any, sizes: Mapping[int, Any]) -> None:
        """Note the whole numbers of modules among the sizes of a tensor without labels."""
        traced = {dim: size for dim, size in sizes.items() if isinstance(size, TracedInt)}
        if traced and isinstance(tensor, Tensor):
            self._noting(tensor).sizes = traced

    def sizes(self, tensor: Any) -> Mapping[int, Any]:
        """Return the whole numbers of modules among a tensor's sizes, by dimension from the end."""
        return self._of(tensor).sizes

    def node(self, name: str, dim: int) -> Tensor:
        """Return the labels of a parameter's dimension."""
        place = (name, dim)
        if place not in self.nodes:
            self.nodes[place] = self._own(name, dim)
        return self.nodes[place]

    def _own(self, name: str, dim: int) -> Tensor:
        """Return the labels that a parameter's dimension has once it is met."""
        place = (name, dim)
        if place not in self._reserved:
            self._reserved[place] = self.labels.fresh(self.shapes[name][dim])
        return self._reserved[place]

    def freeze(self, labels: Tensor | None, reason: str) -> None:
        """Let channels stay as they are."""
        if labels is not None:
            self.frozen.append((torch.unique(compact(labels)), reason))

    def freeze_named(self, name: str, reason: str) -> None:
        """Let a parameter stay as it is."""
        for dim in range(len(self.shapes[name])):
            self.freeze(self.node(name, dim), reason)

    def channels(self, labels: Tensor, dim: int) -> Tensor:
        """Return one label for each position along a dimension, whatever else varies being tied."""
        rows = along(labels, dim)
        if len(rows) != labels.shape[dim]:
            rows = rows.expand(labels.shape[dim], -1)
        if rows.shape[1] == 1:
            return rows[:, 0]
        vector = rows.max(1).values
        self.labels.tie(rows, vector[:, None])
        return vector

    def follow(self, number: Any, labels: Tensor) -> None:
        """Note that a whole number counts the positions of these labels, shape (positions,)."""
        if isinstance(number, TracedInt):
            self.follows.append(Follows(number.monomials, int(number), labels.clone()))

    def multiply(
        self, elements: Tensor, met: Tensor, *, weight: str | None = None, taps: int = 1
    ) -> None:
        """Take note of multiply-accumulates: nothing here, for only costs count them.

        Args:
            elements: labels of what is made.
            met: labels of the dimension that each element sums over.
            weight: name of the weight, None for products of activations.
            taps: further factor, such as the size of a kernel.
        """

    def reduce(self, labels: Tensor) -> None:
        """Note that something was computed over channels together."""
        self.reduced.append(torch.unique(compact(labels)))

    # how it is run

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and follow its labels."""
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        if type(out) in PLAIN:
            return out
        if isinstance(out, Tensor) and out.is_floating_point():
            self.dtypes.add(out.dtype)
        name = str(getattr(function, "__name__", function))
        self.follow_labels(Operation(name, function, args, kwargs, out))
        return out

    def follow_labels(self, operation: Operation) -> None:
        """Apply the rule of an operation."""
        with torch.no_grad():
            self._rules.get(operation.name, self._rules["unknown"])(self, operation)

    def run(self, model: nn.Module, example: Nest) -> Any:
        """Run the model on an example, in the mode that it is in."""
        with torch.no_grad(), traced_counts(model), self.watched(model), self:
            out = call(model, example)
        self.ended(out)
        return out

    def ended(self, out: Any) -> None:
        """Note what the run has made, and which weights have met others."""
        for tensor in results(out):
            self.freeze(self.of(tensor), "it is part of the output")
        tied = self.labels.tied()
        for place, labels in self._reserved.items():
            if bool(tied[labels].any()):
                self.nodes.setdefault(place, labels)


def counted(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct labels of a tensor's elements, and how often each stands there."""
    few = compact(labels)
    distinct, counts = torch.unique(few, return_counts=True)
    return distinct, counts * (labels.numel() // max(few.numel(), 1))
