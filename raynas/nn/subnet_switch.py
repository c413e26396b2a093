"""Switching a supernet from one architecture to the next, over and over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raynas.core.arch import Value
from raynas.nn.choice import LayerChoice
from raynas.nn.elastic import Elastic
from raynas.nn.mutable import Mutable, activate_unchecked, mutables
from raynas.nn.repeat import Repeat

Route = tuple[dict[str, Any], Any]  # a mutable's attributes, and the route to put there
Places = tuple[str, ...]
# what sets a route that is a function of the labels' values alone
SIMPLE = (Elastic.activate, Repeat.activate, LayerChoice.activate)


class SubnetSwitch:
    """Does what ``activate_unchecked`` does, without walking the model again.

    It remembers the routes that every value of a label means, so a switch sets attributes and
    computes nothing. A model with mutables of other kinds (cells, ``InputChoice``, ...) is walked
    as ever.

    Args:
        model: with labels; modules must not be replaced afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._by_label: dict[str, list[Mutable]] = {}
        self._by_several: dict[Places, list[Mutable]] = {}
        self._routes: dict[Any, list[Route]] = {}
        inner = list(mutables(model))
        self._simple = all(type(m).activate in SIMPLE for m in inner)
        for mutable in inner if self._simple else ():
            labels = _labels(mutable)
            if len(labels) == 1:
                self._by_label.setdefault(labels[0], []).append(mutable)
            elif labels:
                self._by_several.setdefault(labels, []).append(mutable)
            else:
                mutable.route = _route(mutable, {})

    def __call__(self, arch: Mapping[str, Value]) -> None:
        """Make ``forward`` run an architecture that is known to be in the space."""
        if not self._simple:
            activate_unchecked(self._model, arch)
            return
        routes, by_label = self._routes, self._by_label
        for pair in arch.items():
            if (known := routes.get(pair)) is None:
                known = routes[pair] = self._new(by_label.get(pair[0], ()), arch)
            for attributes, route in known:
                attributes["route"] = route
        get = arch.get
        for labels, members in self._by_several.items():
            key = (labels, *map(get, labels))
            if (known := routes.get(key)) is None:
                reached = all(label in arch for label in labels)
                known = routes[key] = self._new(members if reached else (), arch)
            for attributes, route in known:
                attributes["route"] = route

    def _new(self, members: Any, arch: Mapping[str, Value]) -> list[Route]:
        return [(member.__dict__, _route(member, arch)) for member in members]


def _labels(mutable: Mutable) -> Places:
    """Return the labels that a mutable's own route depends on."""
    if isinstance(mutable, Elastic):
        return tuple(leaf.place for leaf in mutable.leaves())
    if isinstance(mutable, Repeat):
        if isinstance(mutable.depth, int):
            return ()
        return tuple(decision.label for decision in mutable.choices())
    return (str(mutable.label),)


def _route(mutable: Any, arch: Mapping[str, Value]) -> Any:
    return mutable.at(arch) if isinstance(mutable, Elastic) else mutable.picked(arch)
