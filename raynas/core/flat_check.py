"""Whether a space of at most two levels holds an architecture, by sets instead of one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from raynas.core.arch import Arch, Value
from raynas.core.decision import Choice, Decision

Typed = tuple[str, type, Any]  # label, and type and value of an option: True is not 1


class FlatCheck:
    """Says that an architecture is held; what it does not say so of has to be looked at closely.

    Args:
        always: labels of the decisions that every architecture takes.
        options: of all decisions.
        opened: labels that an option opens, by label and option, for the decisions that open any.
    """

    def __init__(
        self,
        always: frozenset[str],
        options: frozenset[Typed],
        opened: Mapping[str, Mapping[Any, frozenset[str]]],
    ) -> None:
        self._always, self._options = always, options
        self._openers, self._opened = tuple(opened), tuple(opened.values())

    @classmethod
    def of(cls, choices: Iterable[Decision]) -> Self | None:
        """Return the check of a space; None if one opens what opens others, or is no ``Choice``."""
        first = tuple(choices)
        inner = [
            d for decision in first for space in decision.opens.values() for d in space.choices
        ]
        every = [*first, *inner]
        if any(decision.opens for decision in inner):
            return None
        if not all(isinstance(decision, Choice) and decision.scalar for decision in every):
            return None
        options = frozenset((d.label, type(o), o) for d in every for o in d.options)
        opened = {d.label: {o: _labels(d.opened(o)) for o in d.options} for d in first if d.opens}
        return cls(frozenset(d.label for d in first), options, opened)

    def holds(self, arch: Mapping[str, Value]) -> bool:
        """Return True only if the space holds an architecture."""
        values = arch.values()
        try:
            if not self._options.issuperset(zip(arch, map(type, values), values, strict=True)):
                return False
            labels = self._openers
            taken = arch.at(labels) if isinstance(arch, Arch) else map(arch.get, labels)
            inner = [opened[value] for opened, value in zip(self._opened, taken, strict=True)]
        except (KeyError, TypeError):  # missing, or unhashable, as a tuple that holds a list
            return False
        return arch.keys() == self._always.union(*inner)


def _labels(spaces: Iterable[Any]) -> frozenset[str]:
    return frozenset(decision.label for space in spaces for decision in space.choices)
