"""One run of a model, in which labels of channels are carried along with its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from raynas.core.nest import Nest, call
from raynas.nn.conversion.counts import Monomials, TracedInt, traced_counts
from raynas.nn.conversion.labels import Labels, along, compact, spread
from raynas.nn.conversion.lineage import Lineage

Place = tuple[str, int]  # a tensor's name in the model, and one of its dimensions


@dataclass(frozen=True)
class Operation:
    """One call of a function of torch.

    Attributes:
        name: of the function.
        function: itself.
        args: as they came.
        kwargs: as they came.
        out: what it returned.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def argument(self, at: int, name: str, default: Any = None) -> Any:
        """Return an argument, given by its place or by its name."""
        return self.args[at] if len(self.args) > at else self.kwargs.get(name, default)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [x for x in tree_leaves((self.args, self.kwargs)) if isinstance(x, Tensor)]


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
class ModuleCall:
    """One call of a module.

    Attributes:
        path: of the module.
        given: of its first tensor, the number and the labels; None without one.
        made: likewise of what it returned.
        structure: how that stands in what it returned (``structure_of``).
        adds: numbers of tensors that were added to others while it ran.
    """

    path: str
    given: Noted | None
    made: Noted | None = None
    structure: int | None = None
    adds: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Noted:
    """A tensor that was seen: its number, its shape, and its labels then."""

    number: int
    shape: tuple[int, ...]
    labels: Tensor | None


class Trace(TorchFunctionMode):
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
        rectangles: labels of a dimension that was split into equal parts, shape (parts, size).
        follows: whole numbers that count channels.
        scored: by module, the keys that its queries met last, as ``cached`` has them.
        cached: labels of keys and values of causal attention, with how many there are of each.
        calls: of modules, in the order in which they ended.
        through: from a tensor's number to that of the one that it was made of, channel by channel.
        added: numbers of tensors that were added to others.
        dtypes: of the numbers that it computed with, floating-point ones.
    """

    def __init__(self, model: nn.Module, rules: dict[str, Any]) -> None:
        super().__init__()
        self.labels = Labels()
        self.nodes: dict[Place, Tensor] = {}
        self.frozen: list[tuple[Tensor, str]] = []
        self.reduced: list[Tensor] = []
        self.attended: list[Tensor] = []
        self.rectangles: list[Tensor] = []
        self.follows: list[Follows] = []
        self.scored: dict[str, tuple[Tensor, Tensor]] = {}
        self.cached: list[tuple[str, tuple[Tensor, Tensor]]] = []
        self.calls: list[ModuleCall] = []
        self.through: dict[int, int] = {}
        self.added: set[int] = set()
        self.dtypes: set[torch.dtype] = set()
        self._rules = rules
        self._labels: Any = WeakTensorKeyDictionary()
        self._lineages: Any = WeakTensorKeyDictionary()
        self._reserved: dict[Place, Tensor] = {}
        self._numbers: Any = WeakTensorKeyDictionary()
        self._sizes: Any = WeakTensorKeyDictionary()
        self._count = 0
        self._open: list[ModuleCall] = []
        self._names: dict[int, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._held = [*model.parameters(), *model.buffers()]  # or their identities may return
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._names.setdefault(id(tensor), name)
            self.shapes[name] = tuple(tensor.shape)

    # what rules ask and say

    def of(self, tensor: Any) -> Tensor | None:
        """Return a tensor's labels, None if it has none; of one made of weights, by their last."""
        if not isinstance(tensor, Tensor):
            return None
        labels: Tensor | None = self._labels.get(tensor)
        made: Lineage | None = self._lineages.get(tensor) if labels is None else None
        return labels if made is None else made.last

    def lineage(self, tensor: Any) -> Lineage | None:
        """Return what a tensor that is a weight, or is made of weights alone, is made of."""
        if not isinstance(tensor, Tensor) or tensor in self._labels:
            return None
        name = self.name(tensor)
        if name is None:
            held: Lineage | None = self._lineages.get(tensor)
            return held
        if not (isinstance(tensor, nn.Parameter) and tensor.is_floating_point() and tensor.dim()):
            return None
        dims = range(tensor.dim())
        return Lineage((name,), tuple(spread(self._own(name, d), tensor.shape, d) for d in dims))

    def descend(self, tensor: Any, lineage: Lineage) -> None:
        """Note what a tensor is made of."""
        if isinstance(tensor, Tensor):
            self._lineages[tensor] = lineage

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
        if tensor not in self._numbers:
            self._count += 1
            self._numbers[tensor] = self._count
        return int(self._numbers[tensor])

    def put(self, tensor: Any, labels: Tensor | None) -> None:
        """Give a tensor its labels."""
        if isinstance(tensor, Tensor) and labels is not None:
            self._labels[tensor] = labels

    def created(self, tensor: Any, sizes: Mapping[int, Any]) -> None:
        """Note the whole numbers of modules among the sizes of a tensor without labels."""
        traced = {dim: size for dim, size in sizes.items() if isinstance(size, TracedInt)}
        if traced and isinstance(tensor, Tensor):
            self._sizes[tensor] = traced

    def sizes(self, tensor: Any) -> Mapping[int, Any]:
        """Return the whole numbers of modules among a tensor's sizes, by dimension from the end."""
        held: Mapping[int, Any] = self._sizes.get(tensor) or {}
        return held

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

    def passes(self, out: Any, source: Any) -> None:
        """Note that a tensor is made of another channel by channel, whose addition is its own."""
        if isinstance(out, Tensor) and isinstance(source, Tensor):
            made, given = self.number(out), self.number(source)
            if made != given:
                self.through[made] = given

    def add(self, *operands: Any) -> None:
        """Note that tensors were added up."""
        numbers = [self.number(operand) for operand in operands if isinstance(operand, Tensor)]
        if len(numbers) > 1:
            for number in numbers:
                for source in self.sources(number):
                    self.added.add(source)
                    for entry in self._open:
                        entry.adds.append(source)

    def sources(self, number: int) -> Iterator[int]:
        """Yield a tensor's number and those of the tensors that it was made of."""
        yield number
        while number in self.through:
            number = self.through[number]
            yield number

    @property
    def scope(self) -> str:
        """Path of the module that runs."""
        return self._open[-1].path if self._open else ""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Paths of the modules that run, the outermost first."""
        return tuple(entry.path for entry in self._open)

    # how it is run

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and follow its labels."""
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        name = str(getattr(function, "__name__", function))
        self.follow_labels(Operation(name, function, args, kwargs, out))
        return out

    def follow_labels(self, operation: Operation) -> None:
        """Apply the rule of an operation."""
        with torch.no_grad():
            self._rules.get(operation.name, self._rules["unknown"])(self, operation)

    def run(self, model: nn.Module, example: Nest) -> Any:
        """Run the model on an example, in the mode that it is in."""
        with torch.no_grad(), traced_counts(model), self._watched(model), self:
            out = call(model, example)
        for tensor in results(out):
            self.freeze(self.of(tensor), "it is part of the output")
        tied = self.labels.tied()
        for place, labels in self._reserved.items():
            if bool(tied[labels].any()):
                self.nodes.setdefault(place, labels)
        return out

    @contextmanager
    def _watched(self, model: nn.Module) -> Iterator[None]:
        with ExitStack() as undo:
            for path, module in model.named_modules():
                before = _opener(self, path)
                undo.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                undo.callback(module.register_forward_hook(self.closed).remove)
            yield

    def opened(self, path: str, args: Any, kwargs: Any) -> None:
        """Note that a module's call begins."""
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        floating = [x for x in tensors if x.is_floating_point()] or tensors
        self._open.append(ModuleCall(path, self._noted(floating[0]) if floating else None))

    def closed(self, _module: nn.Module, _args: Any, out: Any) -> None:
        """Note that the call of a module ends."""
        ended = self._open.pop()
        tensors = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        if tensors:
            ended.made, ended.structure = self._noted(tensors[0]), structure_of(out)
        self.calls.append(ended)

    def _noted(self, tensor: Tensor) -> Noted:
        return Noted(self.number(tensor), tuple(tensor.shape), self.of(tensor))


def _opener(trace: Trace, path: str) -> Any:
    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        trace.opened(path, args, kwargs)

    return before


def results(out: Any) -> list[Tensor]:
    """Return the tensors of a model's output that others read.

    Of an output by names, that is what comes first, or ``logits`` and ``loss`` if there are any:
    states that were collected on the way may change their shapes.
    """
    if isinstance(out, Mapping):
        named = [out[name] for name in ("logits", "loss") if out.get(name) is not None]
        out = named or list(out.values())[:1]
    return [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def structure_of(out: Any) -> int | None:
    """Return how a module's first tensor stands in what it returns.

    -1 where it is alone, else how many entries follow it in a tuple; None if it stands otherwise.
    """
    if isinstance(out, Tensor):
        return -1
    if type(out) in (tuple, list) and out and isinstance(out[0], Tensor):
        return len(out) - 1
    return None


def counted(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct labels of a tensor's elements, and how often each stands there."""
    few = compact(labels)
    distinct, counts = torch.unique(few, return_counts=True)
    return distinct, counts * (labels.numel() // max(few.numel(), 1))
