"""Elastic layers run as the plain layers that an architecture makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

import torch
from torch import nn

from raynas.core.arch import Value
from raynas.nn.elastic import Elastic
from raynas.nn.expression import Leaf
from raynas.nn.mutable import mutables

MAX_COMBINATIONS = 256


class Varies(Exception):
    """Costs that depend on each other, so that no table of parts can hold them."""


class PlainLayers:
    """The elastic layers of a model, and the values that they have at the moment.

    Args:
        model: whose parameters and buffers the plain layers use where they need all of one.
        remember: make each plain layer once, at the price of the memory of all slices.
    """

    def __init__(self, model: nn.Module, *, remember: bool = False) -> None:
        self._made: dict[Any, nn.Module] | None = {} if remember else None
        self._kept = kept(model)
        self.layers = [m for m in mutables(model) if isinstance(m, Elastic)]
        leaves = {leaf.place: leaf for layer in self.layers for leaf in layer.leaves()}
        self.domains = {label: domain(leaf) for label, leaf in leaves.items()}
        self.now: dict[str, Value] = {label: values[0] for label, values in self.domains.items()}
        self.bound: frozenset[str] = frozenset()

    @contextmanager
    def taking(self, values: Mapping[str, Value]) -> Iterator[None]:
        """Let the layers have these values, and count them as enumerated."""
        before = self.now, self.bound
        self.now, self.bound = {**self.now, **values}, self.bound | values.keys()
        try:
            yield
        finally:
            self.now, self.bound = before

    def of(self, layer: Elastic) -> nn.Module:
        """Return the plain layer that the present values make of an elastic one."""
        key = layer, tuple(self.now[label] for label in labels_of(layer))
        if self._made is not None and key in self._made:
            return self._made[key]
        with torch.random.fork_rng(devices=[]):  # some layers draw weights that are replaced
            made = layer.frozen(self.now, dict(self._kept))
        if self._made is not None:
            self._made[key] = made
        return made

    def params(self, layer: Elastic) -> dict[Any, int]:
        """Return the sizes of the plain layer's parameters by identity.

        A slice is a parameter of its own, which only this layer has.
        """
        values = tuple(self.now[label] for label in labels_of(layer))
        sizes: dict[Any, int] = {}
        for name, p in self.of(layer).named_parameters():
            sizes[id(p) if id(p) in self._kept else (id(layer), values, name)] = p.numel()
        return sizes


def kept(model: nn.Module) -> dict[int, Any]:
    """Return a memo with which copies of (parts of) the model share its tensors."""
    return {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}


def labels_of(layer: Elastic) -> tuple[str, ...]:
    """Return the labels of the values that a layer's arguments depend on."""
    return tuple(leaf.place for leaf in layer.leaves())


def domain(leaf: Leaf) -> tuple[Value, ...]:
    """Return every value of a leaf.

    Raises:
        Varies: it has too many values to be enumerated.
    """
    decision = leaf.decision()
    if decision.count() > MAX_COMBINATIONS:
        raise Varies(f"{decision.label!r} has {decision.count()} values")
    return tuple(decision.values())


def checked_count(domains: Mapping[str, tuple[Value, ...]]) -> None:
    """Raise Varies if there are too many combinations to enumerate."""
    count = prod(map(len, domains.values()))
    if count > MAX_COMBINATIONS:
        labels = ", ".join(map(repr, domains))
        raise Varies(f"{labels} have {count} combinations, and no part of them is independent")


@contextmanager
def calling(forwards: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Let modules run other functions than their ``forward`` for a while."""
    with ExitStack() as undo:
        for module, forward in forwards.items():
            before = vars(module).get("forward")
            vars(module)["forward"] = forward
            undo.callback(_restore, module, before)
        yield


def _restore(module: nn.Module, before: Any) -> None:
    if before is None:
        del vars(module)["forward"]
    else:
        vars(module)["forward"] = before
