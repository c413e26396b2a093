"""An edge of a cell, and its operations from what the user gave."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.nn.choice import LayerChoice
from raynas.nn.in_place import called
from raynas.nn.mutable import SKIP

Factory = Callable[[int, int, int], nn.Module]
Candidates = (
    Mapping[str, nn.Module | Factory]
    | Sequence[nn.Module | Factory]
    | Callable[[int, int], Mapping[str, nn.Module]]
)


class Edge(LayerChoice):
    """The choice between operations from one source to one node, unless it is left out."""

    picks_several = False

    def __init__(self, layers: Mapping[str, nn.Module], source: str, *, named: bool) -> None:
        super().__init__(layers if named else layers.values(), "edge")
        self.source = source
        self.from_label = ""

    def picked(self, arch: Mapping[str, Value]) -> int:
        """Return the position of the operation, SKIP if the node does not read this source."""
        origin = arch.get(self.from_label)
        taken = self.source in origin if isinstance(origin, tuple) else self.source == origin
        return super().picked(arch) if taken else SKIP

    def runner(self, route: int) -> Callable[..., Any]:
        """Return what runs one operation, whose input other edges read as well."""
        return partial(called, super().runner(route))

    def __delitem__(self, at: int | str) -> None:
        """Refuse: all edges of a cell have the same operations."""
        raise TypeError("an edge keeps its operations: give the cell fewer of them")

    @property
    def real(self) -> tuple[int, ...]:
        """The positions of the operations that an architecture may pick: all but zeros."""
        return tuple(at for at in range(len(self.names)) if at != self.none)


def edge_layers(
    candidates: Candidates, node: int, slot: int, source: int, where: str
) -> dict[str, nn.Module]:
    """Return an edge's operations by name; raise InvalidSpace where they are none."""
    if callable(candidates) and not isinstance(candidates, nn.Module):
        given: Any = _called(candidates, (node, source), where)
        if not isinstance(given, Mapping | nn.ModuleDict):
            raise InvalidSpace(
                f"{where}: the function must return operations by name, got {given!r}"
            )
    elif isinstance(candidates, Mapping | nn.ModuleDict):
        given = candidates
    elif isinstance(candidates, list | tuple | nn.ModuleList):
        given = {str(i): layer for i, layer in enumerate(candidates)}
    else:
        raise InvalidSpace(
            f"{where}: operations stand in a dict, a list or a function, got {candidates!r}"
        )
    if not given:
        raise InvalidSpace(f"{where} needs at least one operation, got none")
    layers = {}
    for name, layer in given.items():
        shared = isinstance(layer, nn.Module) and not _is_factory(candidates)
        made = copy.deepcopy(layer) if shared else layer
        if not isinstance(made, nn.Module) and callable(made):
            made = _called(made, (node, slot, source), f"{where}, operation {name!r}")
        if not isinstance(made, nn.Module):
            kind = type(made).__name__
            raise InvalidSpace(f"{where}: operation {name!r} must be an nn.Module, got a {kind}")
        layers[name] = made
    return layers


def _is_factory(candidates: Candidates) -> bool:
    """Return whether one function makes the operations of every edge, so that none is shared."""
    return callable(candidates) and not isinstance(candidates, nn.Module)


def _called(function: Callable[..., Any], arguments: tuple[int, ...], where: str) -> Any:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise InvalidSpace(
            f"{where}: the function must take {len(arguments)} positions: {error}"
        ) from None
    except ValueError:  # a builtin, which has no signature
        pass
    return function(*arguments)
