"""Where decisions stand in a model: the base class, and the walks over a model's mutables.

A mutable answers for its whole subtree, so walks stop at the outermost one; a candidate with
choices of its own is asked by the choice that holds it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.core.fixed import read_arch
from raynas.core.plain_values import as_lists, typed
from raynas.nn.copying import without_graphs
from raynas.nn.labels import Labelled, check_references
from raynas.nn.labels import name_labels as name_labels
from raynas.nn.logits import Logits, Probabilities, Rank
from raynas.nn.several import read_picks

Memo = dict[int, Any]
SKIP = -1  # route of an edge that contributes nothing


class Mutable(Labelled):
    """A module that stands for several, one of which an architecture picks.

    Attributes:
        route: how ``forward`` runs at the moment: what ``activate`` set, a callable that mixes
            candidates, or None. It is no part of the state: copies and pickles drop a callable,
            since a mixer belongs to a search and not to a model.
        described_once: whether equal labels share one entry of a flat description.
        picks_several: whether a fixed architecture may pick none, or several, of its options.
        own_space: of a mutable that is a whole model and never changes what it decides, its space.
    """

    route: Any = None
    holders: tuple[str, ...] = ("candidates",)
    decides = True
    described_once = False
    picks_several = False
    own_space: ArchSpace | None = None

    def choices(self) -> tuple[Decision, ...]:
        """Return this module's decisions, with what their options open."""
        raise TypeError(f"{type(self).__name__} must define choices()")

    def activate(self, arch: Mapping[str, Value]) -> None:
        """Make ``forward`` run the architecture's sub-network."""
        raise TypeError(f"{type(self).__name__} must define activate()")

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return the picked part as a plain module."""
        raise TypeError(f"{type(self).__name__} must define frozen()")

    def logits(self) -> tuple[Logits, ...]:
        """Return what a differentiable search learns here.

        Raises:
            InvalidSpace: it cannot be relaxed.
        """
        labels = ", ".join(repr(decision.label) for decision in self.choices())
        if not labels:
            return ()
        raise InvalidSpace(
            f"{type(self).__name__} {labels} cannot be relaxed: a differentiable search mixes the "
            "candidates of layer choices, whose shapes are equal; search it with a sampler"
        )

    def derive(self, p: Probabilities, rank: Rank) -> dict[str, Value]:
        """Return the decisions that probabilities prefer (see ``derived`` below)."""
        return {}

    def describe(self, arch: Mapping[str, Value]) -> Any:
        """Return this module's part of an architecture in a form that JSON can hold."""
        reached = ArchSpace(self.choices()).reached(arch)
        return {label: as_lists(arch[label]) for label in reached}

    def parsed(self, description: Any) -> dict[str, Value]:
        """Return the decisions in what ``describe`` wrote.

        Raises:
            InvalidArch: it is no description of this module.
        """
        if not isinstance(description, Mapping):
            where = f"{type(self).__name__} {self.label!r}"
            raise InvalidArch(f"{where}: expected a dict from label to choice, got {description!r}")
        return dict(read_arch(ArchSpace(self.choices()), description))

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


def space_of(model: nn.Module) -> ArchSpace:
    """Return the space that a model's mutables span.

    Raises:
        InvalidSpace: one label stands for two different decisions, choices are nested too deeply,
            or an ``InputChoice`` refers to no earlier mutable.
    """
    name_labels(model)
    space = inner_space(model)
    check_references(model)
    return space


def inner_space(module: nn.Module) -> ArchSpace:
    """As ``space_of``, for a part of a model whose labels are given."""
    return ArchSpace(merged(d for mutable in outermost(module) for d in mutable.choices()))


def merged(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Return one decision per label and domain, which opens all that its places open."""
    by_label: dict[str, list[Decision]] = {}
    for decision in decisions:
        same = by_label.setdefault(decision.label, [])
        for at, other in enumerate(same):
            if _one_domain(other, decision):
                same[at] = _united(other, decision)
                break
        else:
            same.append(decision)  # ArchSpace refuses a second domain, naming the label
    return tuple(decision for same in by_label.values() for decision in same)


def _one_domain(first: Decision, other: Decision) -> bool:
    kinds = [
        [type(d), getattr(d, "k", 1), d.options, *map(typed, d.options)] for d in (first, other)
    ]
    return kinds[0] == kinds[1]


def _united(first: Decision, other: Decision) -> Decision:
    if first is other or first.opens == other.opens:
        return first
    opens = {}
    for option in first.options:
        spaces = [d.opens[option] for d in (first, other) if option in d.opens]
        if spaces:
            opens[option] = ArchSpace(merged(d for space in spaces for d in space.choices))
    return replace(first, opens=opens)


def logits_of(model: nn.Module) -> dict[str, Logits]:
    """Return the vectors that a search of the model learns, by label.

    Raises:
        InvalidSpace: a mutable that cannot be relaxed (the message says which and why), or one
            label that stands for two kinds of vectors.
    """
    vectors: dict[str, Logits] = {}
    for mutable in outermost(model):
        for vector in mutable.logits():
            if vectors.setdefault(vector.label, vector) != vector:
                raise InvalidSpace(
                    f"label {vector.label!r} stands for {vectors[vector.label]} and for {vector}"
                )
    return vectors


def derived(module: nn.Module, p: Probabilities, rank: Rank) -> dict[str, Value]:
    """Return the architecture that probabilities prefer.

    Args:
        module: with mutables.
        p: by label, shape (options,); of cells also by the labels of their nodes' sources, where a
            search weighs edges.
        rank: strength of an edge from its vector and the position of ``none``; a node keeps the
            strongest edges, ties going to the first.
    """
    return {k: v for mutable in outermost(module) for k, v in mutable.derive(p, rank).items()}


def activate(model: nn.Module, arch: Mapping[str, Any]) -> None:
    """Make the model's ``forward`` run one architecture; weights stay where they are.

    Args:
        model: with mutables.
        arch: label to choice, in any form that ``raynas.core.fixed.read_arch`` reads; a
            ``LayerChoice`` may also run none, or several, of its candidates.

    Raises:
        InvalidArch: the model's space does not hold ``arch``; the model is then unchanged.
    """
    activate_unchecked(model, _read(model, arch))


def activate_unchecked(module: nn.Module, arch: Mapping[str, Value]) -> None:
    """As ``activate``, for an architecture known to be valid: no walk for the space."""
    for mutable in outermost(module):
        mutable.activate(arch)


def freeze(model: nn.Module, arch: Mapping[str, Any]) -> nn.Module:
    """Return one architecture as a plain module with the model's weights, copied.

    Unchosen candidates are never copied, tied weights stay tied, and ``state_dict`` keys are those
    of a model that was written without choices.

    Args:
        model: with mutables.
        arch: label to choice, in any form that ``raynas.core.fixed.read_arch`` reads; a
            ``LayerChoice`` may also run none, or several, of its candidates.

    Raises:
        InvalidArch: the model's space does not hold ``arch``.
        InvalidSpace: modules stand in each other too deeply for Python to copy them.
    """
    try:
        return frozen(model, _read(model, arch), {**without_graphs(model)})
    except RecursionError as error:
        raise InvalidSpace(
            f"{type(model).__name__}: modules stand in each other too deeply to be copied; put "
            "layers that follow each other into one nn.Sequential"
        ) from error


def frozen(module: nn.Module, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
    """As ``freeze``, within a copy that is under way."""
    for mutable in outermost(module):
        if id(mutable) not in memo:  # deepcopy then finds every mutable already 'copied'
            memo[id(mutable)] = mutable.frozen(arch, memo)
    return copy.deepcopy(module, memo)


def frozen_in_place(model: nn.Module, arch: Mapping[str, Any]) -> Arch:
    """Replace every mutable in a model by what an architecture picks of it, and return that.

    Weights are not copied: an optimizer goes on with those that are left. What other modules hold
    outside of their children stays as it was.

    Args:
        model: with mutables, itself none.
        arch: as for ``freeze``.

    Raises:
        InvalidArch: the model's space does not hold ``arch``; the model is then unchanged.
        TypeError: the model itself is a mutable, which cannot become another module.
    """
    read = _read(model, arch)
    if isinstance(model, Mutable):
        raise TypeError(
            f"the model itself is a {type(model).__name__}, which cannot be replaced in place: use "
            "raynas.nn.freeze(model, arch)"
        )
    memo: Memo = {**without_graphs(model), **_uncopied(model)}
    for parent in [module for module in model.modules() if not isinstance(module, Mutable)]:
        for name, child in parent._modules.items():
            if isinstance(child, Mutable):
                if id(child) not in memo:
                    memo[id(child)] = child.frozen(read, memo)
                parent._modules[name] = memo[id(child)]
    return read


def _uncopied(model: nn.Module) -> Memo:
    """Return what leaves tensors, and modules without choices, as they are in a deep copy."""
    plain = [m for m in model.modules() if not any(True for _ in mutables(m))]
    tensors = [*model.parameters(), *model.buffers()]
    return {id(part): part for part in (*plain, *tensors)}


def _read(model: nn.Module, arch: Mapping[str, Any]) -> Arch:
    if isinstance(model, Mutable) and model.own_space is not None:
        return read_arch(model.own_space, arch)
    space = space_of(model)
    several = {str(mutable.label) for mutable in mutables(model) if mutable.picks_several}
    return read_picks(space, several, arch)


def decide_together(layer: nn.Module, original: nn.Module) -> None:
    """Let the choices in one layer take the labels of those in another that is built alike."""
    ours, theirs = list(mutables(layer)), list(mutables(original))
    if [type(m) for m in ours] == [type(m) for m in theirs]:
        for mutable, other in zip(ours, theirs, strict=True):
            mutable.tied_to = (other,)  # in a tuple, or PyTorch would take it for a child


def each_route(model: nn.Module, route: Callable[[Mutable], Any]) -> Callable[[], None]:
    """Set every mutable's route, and return what puts the old ones back."""
    before = [(mutable, mutable.route) for mutable in mutables(model)]
    for mutable, _ in before:
        mutable.route = route(mutable)

    def restore() -> None:
        for mutable, old in before:
            mutable.route = old

    return restore
