"""Where decisions stand in a model: the base class, and the walks over a model's mutables.

A mutable answers for its whole subtree, so walks stop at the outermost one; a candidate with
choices of its own is asked by the choice that holds it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision

Memo = dict[int, Any]


class Mutable(nn.Module):
    """A module that stands for several, one of which an architecture picks.

    Attributes:
        label: name of its decision; None until ``name_labels`` gives it its module path.
        route: how ``forward`` runs at the moment: the index of a candidate, a callable that mixes
            candidates, or None. It is no part of the state: copies and pickles keep an index and
            drop a callable, since a mixer belongs to a search and not to a model.
    """

    label: str | None
    route: Any = None

    def choices(self) -> tuple[Decision, ...]:
        """Return this module's decisions, with what their options open."""
        raise TypeError(f"{type(self).__name__} must define choices()")

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Make ``forward`` run the architecture's sub-network."""
        raise TypeError(f"{type(self).__name__} must define activate()")

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return the picked part as a plain module."""
        raise TypeError(f"{type(self).__name__} must define frozen()")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if callable(state.get("route")):
            state["route"] = None
        return state


def outermost(module: nn.Module) -> Iterator[Mutable]:
    """Yield the mutables below (or at) ``module`` that stand in no other mutable."""
    if isinstance(module, Mutable):
        yield module
        return
    for child in module.children():
        yield from outermost(child)


def mutables(module: nn.Module) -> Iterator[Mutable]:
    """Yield every mutable below (or at) ``module``, nested ones included."""
    for inner in module.modules():
        if isinstance(inner, Mutable):
            yield inner


def name_labels(model: nn.Module) -> None:
    """Give every mutable without a label its module path, as a model without choices has it."""
    paths = {path: m for path, m in model.named_modules() if isinstance(m, Mutable)}
    for path, mutable in paths.items():
        if mutable.label is None:
            parts = path.split(".")
            own = [
                p
                for i, p in enumerate(parts)
                if p != "candidates" or ".".join(parts[:i]) not in paths
            ]
            mutable.label = ".".join(own) or type(mutable).__name__


def space_of(model: nn.Module) -> ArchSpace:
    """Return the space that a model's mutables span.

    Raises:
        InvalidSpace: one label stands for two different decisions.
    """
    name_labels(model)
    return _space(model)


def _space(module: nn.Module) -> ArchSpace:
    found: dict[str, list[Decision]] = {}
    for mutable in outermost(module):
        for decision in mutable.choices():
            same = found.setdefault(decision.label, [])
            if decision not in same:
                same.append(decision)  # ArchSpace refuses a second domain, naming the label
    return ArchSpace(tuple(decision for same in found.values() for decision in same))


def activate(model: nn.Module, arch: Mapping[str, Value]) -> None:
    """Make the model's ``forward`` run one architecture; weights stay where they are.

    Raises:
        InvalidArch: the model's space does not hold ``arch``; the model is then unchanged.
    """
    space_of(model).check(arch)
    activate_unchecked(model, arch)


def activate_unchecked(module: nn.Module, arch: Mapping[str, Value]) -> None:
    """As ``activate``, for an architecture known to be valid: no walk for the space."""
    for mutable in outermost(module):
        mutable.activate(arch)


def freeze(model: nn.Module, arch: Mapping[str, Value]) -> nn.Module:
    """Return one architecture as a plain module with the model's weights, copied.

    Unchosen candidates are never copied, tied weights stay tied, and ``state_dict`` keys are those
    of a model that was written without choices.

    Raises:
        InvalidArch: the model's space does not hold ``arch``.
    """
    space_of(model).check(arch)
    return frozen(model, arch, {})


def frozen(module: nn.Module, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
    """As ``freeze``, within a copy that is under way."""
    for mutable in outermost(module):
        if id(mutable) not in memo:  # deepcopy then finds every mutable already 'copied'
            memo[id(mutable)] = mutable.frozen(arch, memo)
    return copy.deepcopy(module, memo)


def each_route(model: nn.Module, route: Callable[[Mutable], Any]) -> Callable[[], None]:
    """Set every mutable's route, and return what puts the old ones back."""
    before = [(mutable, mutable.route) for mutable in mutables(model)]
    for mutable, _ in before:
        mutable.route = route(mutable)

    def restore() -> None:
        for mutable, old in before:
            mutable.route = old

    return restore
