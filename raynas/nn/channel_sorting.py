"""Putting the channels that matter most first, which narrower layers keep.

A narrower layer takes the first channels of the widest one. Before widths are made elastic,
channels are put in the order of their importance, without changing what the whole model computes
(Cai et al., 2020, arXiv:1908.09791, section 3.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core.arch import Atom, Value
from raynas.core.nest import Nest, call, leaves
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.conversion.ordering import UnitGroup, falling, unit_groups
from raynas.nn.elastic import ChannelAxis, Elastic
from raynas.nn.expression import Expression, assignments
from raynas.nn.mutable import activate_unchecked, mutables

CLOSE = 1e-4  # of the largest output: what another order of additions may change
Key = tuple[tuple[str, ...], tuple[int, ...]]


@dataclass
class ChannelGroup:
    """Channels that one size counts wherever it stands, so that they share one order.

    Attributes:
        size: counts them.
        axes: where they lie.
    """

    size: Expression
    axes: list[tuple[Elastic, ChannelAxis]] = field(default_factory=list)

    @property
    def labels(self) -> tuple[str, ...]:
        """The decisions that the size depends on."""
        return tuple(leaf.place for leaf in self.size.leaves())

    @property
    def count(self) -> int:
        """How many channels there are at most."""
        return int(max(self.size.options()))

    def tensors(self) -> list[tuple[Tensor, int]]:
        """Return the tensors with the axes of the channels; tied ones once."""
        places: dict[tuple[int, int], tuple[Tensor, int]] = {}
        for layer, axis in self.axes:
            tensor = getattr(layer, axis.tensor)
            if tensor is not None:
                places[id(tensor), axis.axis] = (tensor, axis.axis)
        return list(places.values())

    def importance(self) -> Tensor | None:
        """Return the sum of the magnitudes of all weights that read a channel, shape (channels,).

        Differs: the authors count the projecting convolution's weights alone, here those of a
        squeeze-and-excitation take part.
        """
        sums = []
        for layer, axis in self.axes:
            if axis.reads:
                weight = getattr(layer, axis.tensor).detach()
                others = [dim for dim in range(weight.dim()) if dim != axis.axis]
                sums.append(weight.abs().sum(others))
        return torch.stack(sums).sum(0) if sums else None

    def sizes(self, options: Mapping[str, Collection[Atom]]) -> list[int]:
        """Return, rising, how many channels there are where decisions have these options only.

        None at all where one of the decisions has none.
        """
        if not options.keys() >= set(self.labels):
            return []
        archs = assignments(self.size.leaves())
        inside = (arch for arch in archs if all(arch[k] in options[k] for k in arch))
        return sorted({int(self.size.evaluate(arch)) for arch in inside})

    def order(self, options: Mapping[str, Collection[Atom]]) -> Tensor | None:
        """Return the channels by falling importance; those of a size in ``options`` stay in it."""
        importance = self.importance()
        return None if importance is None else falling(importance, self.sizes(options))

    @torch.no_grad()
    def permute(self, order: Tensor) -> None:
        """Put the channels in another order wherever they lie."""
        for tensor, axis in self.tensors():
            tensor.copy_(tensor.index_select(axis, order))


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """Return the channels of elastic layers that may be put in another order.

    Args:
        model: with labels.
    """
    groups: dict[Key, ChannelGroup] = {}
    refused: set[Key] = set()
    for layer in mutables(model):
        if isinstance(layer, Elastic):
            try:
                axes = layer.channel_axes()
            except LookupError:
                refused.update(_key(size) for size in _widths(layer))
                continue
            for axis in axes:
                size = layer.arguments[axis.argument]
                if isinstance(size, Expression):
                    groups.setdefault(_key(size), ChannelGroup(size)).axes.append((layer, axis))
    return [
        group
        for key, group in groups.items()
        if key not in refused
        and all(tensor.shape[axis] == group.count for tensor, axis in group.tensors())
    ]


def sort_channels(
    model: nn.Module,
    inputs: Nest,
    *,
    whole: Mapping[str, Value],
    trained: Mapping[str, Collection[Atom]],
) -> list[str]:
    """Put channels in the order of their importance where the whole model's output stays the same.

    Args:
        model: whose weights and statistics are permuted; its mode is kept.
        inputs: a batch that shows whether outputs stay.
        whole: the largest architecture, which is active afterwards.
        trained: options, by label, of widths that were trained as they are: channels do not move
            across these.

    Returns:
        Labels of widths whose channels cannot move without changing what the model computes.
    """
    groups: list[ChannelGroup | UnitGroup] = [*channel_groups(model)]
    for mutable in mutables(model):
        if isinstance(mutable, ElasticModel):
            groups += unit_groups(mutable)
    orders = [(group, order) for group in groups if (order := group.order(trained)) is not None]
    training = {module: module.training for module in model.modules()}
    model.eval()
    activate_unchecked(model, whole)
    try:
        before = _outputs(model, inputs)
        if _kept(model, inputs, before, orders):
            return []
        failed = [pair for pair in orders if not _kept(model, inputs, before, [pair])]
    finally:
        for module, mode in training.items():
            module.training = mode
    return sorted({label for group, _ in failed for label in group.labels})


def _kept(
    model: nn.Module,
    inputs: Nest,
    before: list[Tensor],
    orders: Iterable[tuple[ChannelGroup | UnitGroup, Tensor]],
) -> bool:
    """Permute, and take it back if the outputs are others then."""
    undo = []
    for group, order in orders:
        group.permute(order)
        undo.append((group, order.argsort()))
    pairs = zip(before, _outputs(model, inputs), strict=True)
    if all(float((a - b).abs().max()) <= CLOSE * float(a.abs().max()) for a, b in pairs):
        return True
    for group, order in reversed(undo):
        group.permute(order)
    return False


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Nest) -> list[Tensor]:
    outputs: list[Any] = list(leaves(call(model, inputs)))
    return [leaf for leaf in outputs if isinstance(leaf, Tensor)]


def _widths(layer: Elastic) -> list[Expression]:
    sizes = (layer.arguments[name] for name, kind in layer.dimensions.items() if kind == "width")
    parts = [part for size in sizes for part in (size if isinstance(size, tuple) else (size,))]
    return [part for part in parts if isinstance(part, Expression)]


def _key(size: Expression) -> Key:
    leaves_ = size.leaves()
    values = tuple(int(size.evaluate(arch)) for arch in assignments(leaves_))
    return tuple(leaf.place for leaf in leaves_), values
