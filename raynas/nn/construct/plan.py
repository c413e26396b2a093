"""What a description makes of a model: collected and checked first, then carried out at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidArch, InvalidSpace, nearest
from raynas.core.fixed import agreed, read_arch
from raynas.nn.construct.filling import PREDEFINED, Spec, built, predefined
from raynas.nn.construct.places import entries, with_fixed
from raynas.nn.mutable import Memo, Mutable, mutables, outermost, space_of
from raynas.nn.operators import OPERATORS
from raynas.nn.slot import Slot


class Plan:
    """The fate of every place of a model; the model itself is never changed.

    Args:
        model: a template, or a supernet.
        operators: specs by the names that a description may use besides registered operators.

    Raises:
        InvalidSpace: the model contradicts itself.
    """

    def __init__(self, model: nn.Module, operators: Mapping[str, Spec] | None = None) -> None:
        space_of(model)  # gives labels
        self.model, self.operators = model, dict(operators or {})
        self._arch: dict[str, Value] = {}
        self._decided: list[tuple[str, Mutable]] = []
        self._filled: Memo = {}
        self._seen: set[int] = set()

    def take(self, path: str, mutable: Mutable, entry: Any) -> None:
        """Note what an entry says about a place: a layer, decisions, or with None, nothing.

        With None, an empty slot that knows its predefined operator takes that.

        Raises:
            InvalidArch: it is no entry for this place, which the message names.
        """
        where = path or "the model"
        if id(mutable) in self._seen:
            raise InvalidArch(f"{where}: this module is described twice")
        self._seen.add(id(mutable))
        empty = isinstance(mutable, Slot) and mutable.empty
        if entry is None and isinstance(mutable, Slot) and empty and PREDEFINED in mutable.info:
            self._filled[id(mutable)] = predefined(mutable)
            return
        if entry is None and (empty or not isinstance(mutable, Slot) or mutable.choices()):
            return
        try:
            if isinstance(mutable, Slot) and mutable.empty:
                self._filled[id(mutable)] = self._layer(mutable, entry)
            else:
                self._arch = agreed([self._arch, mutable.parsed(entry)])
                self._decided.append((where, mutable))
        except InvalidArch as error:
            raise InvalidArch(f"{where}: {error}") from None

    def follow(self, path: str, mutable: Mutable) -> None:
        """Let a place take the decisions of one that was taken before."""
        self._seen.add(id(mutable))
        self._decided.append((path, mutable))

    def take_list(self, listed: Any) -> None:
        """Note a flat list: one entry for each place in order, one for all cells of a label."""
        places = entries(self.model)
        if not isinstance(listed, list | tuple):
            raise InvalidArch(f"expected a list of {len(places)} entries, got {_short(listed)}")
        listed = self._without_fixed(listed, len(places))
        if len(listed) != len(places):
            lacking = [path for path, _ in places[len(listed) :]]
            more = f"; the first without one is {lacking[0]!r}" if lacking else ""
            raise InvalidArch(
                f"expected {self._counts(len(places))}, one for each place, got {len(listed)}{more}"
            )
        for at, ((path, group), entry) in enumerate(zip(places, listed, strict=True)):
            self.take(f"entry {at} ({path})", group[0], entry)
            for other in group[1:]:
                if entry is not None:
                    self.follow(path, other)

    def _without_fixed(self, listed: Sequence[Any], count: int) -> Sequence[Any]:
        """Return a list without its entries for fixed blocks, if it has such."""
        order = with_fixed(self.model)
        if len(listed) == count or len(listed) != len(order):
            return listed
        for at, (is_place, entry) in enumerate(zip(order, listed, strict=True)):
            if not is_place and entry is not None:
                raise InvalidArch(
                    f"entry {at}: this block is fixed, expected null, got {_short(entry)}; build "
                    "the backbone with slots=True to choose it too"
                )
        return [entry for is_place, entry in zip(order, listed, strict=True) if is_place]

    def _counts(self, places: int) -> str:
        fixed = len(with_fixed(self.model))
        also = "" if fixed == places else f", or {fixed} with null for fixed blocks"
        return f"{places} entries{also}"

    def misses(self, module: nn.Module) -> bool:
        """Return whether a place below (or at) ``module`` was not taken yet."""
        return any(id(mutable) not in self._seen for mutable in outermost(module))

    def arch(self) -> Arch:
        """Return the architecture that was noted, of a model without empty slots.

        Raises:
            InvalidArch: a decision is missing.
        """
        return read_arch(space_of(self.model), self._arch)

    def carried_out(self) -> nn.Module:
        """Return the model with all that was decided or filled as plain modules.

        Raises:
            InvalidArch: a place that shares a label misses a decision.
            InvalidSpace: a decided place holds an empty slot.
        """
        for where, mutable in self._decided:
            try:
                ArchSpace(mutable.choices()).reached(self._arch)
            except InvalidArch as error:
                raise InvalidArch(f"{where}: {error}") from None
        memo = dict(self._filled)
        for _, mutable in self._decided:
            memo[id(mutable)] = mutable.frozen(self._arch, memo)
        return copy.deepcopy(self.model, memo)

    def _layer(self, slot: Slot, entry: Any) -> nn.Module:
        """Return the operator that an entry names, with entries for its own choices applied."""
        listed = entry if isinstance(entry, list | tuple) else [entry]
        name = listed[0] if listed else None
        if not isinstance(name, str) or len(listed) > 2:
            raise InvalidArch(f"{slot}: expected an operator's name, got {_short(entry)}")
        layer = self._operator(slot, name)
        if len(listed) == 1:
            return layer
        inside = Plan(layer, self.operators)
        inside.take_list(listed[1])
        layer = inside.carried_out()
        if any(mutables(layer)):
            raise InvalidArch(f"{slot}: {_short(listed[1])} leaves choices of {name!r} open")
        return layer

    def _operator(self, slot: Slot, name: str) -> nn.Module:
        if name not in self.operators and name not in OPERATORS:
            hint = nearest(name, [*self.operators, *OPERATORS])
            raise InvalidArch(f"{slot}: no operator named {name!r}; {hint}")
        try:
            (layer,) = built(slot, {name: self.operators.get(name, name)}).values()
        except InvalidSpace as error:
            raise InvalidArch(str(error)) from error
        return layer


def take_tree(plan: Plan, tree: Any) -> None:
    """Note a nested dict that follows module names, with entries where the places are."""

    def visit(module: nn.Module, entry: Any, path: Sequence[str]) -> None:
        where = ".".join(path)
        if isinstance(module, Mutable):
            plan.take(where, module, entry)
        elif entry is not None:
            children = dict(module.named_children())
            _check_names(where or "the model", entry, children)
            for name, child in children.items():
                if name in entry:
                    visit(child, entry[name], (*path, name))
                elif plan.misses(child):
                    raise InvalidArch(f"{where or 'the model'}: no entry for {name!r}")

    visit(plan.model, tree, ())


def _check_names(where: str, entry: Any, children: Mapping[str, nn.Module]) -> None:
    if not isinstance(entry, Mapping):
        raise InvalidArch(f"{where}: expected a dict by module names, got {_short(entry)}")
    for name in entry:
        if name not in children:
            raise InvalidArch(
                f"{where}: no module is named {name!r}; {nearest(str(name), children)}"
            )


def _short(entry: Any) -> str:
    text = repr(entry)
    return text if len(text) <= 200 else f"{text[:200]}..."
