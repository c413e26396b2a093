"""Choices that open nothing, handled together: a thousand of them one by one take milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, islice
from operator import getitem
from typing import Any, Protocol, TypeAlias

import numpy as np

from raynas.core.arch import Arch, Atom, Value
from raynas.core.decision import Choice, Decision

FEWEST = 4  # fewer are as fast one by one


class PlainChoices:
    """Choices that stand one after the other and open nothing.

    Args:
        choices: in their order; of equal ones, the first counts.
    """

    def __init__(self, choices: Iterable[Choice]) -> None:
        self.decisions = {choice.label: choice for choice in choices}
        self.labels = tuple(self.decisions)
        self._options = [choice.options for choice in self.decisions.values()]
        self._counts = np.array([len(options) for options in self._options])
        self._positions = [choice.positions for choice in self.decisions.values()]

    def draw(self, rng: np.random.Generator) -> Iterable[Atom]:
        """Draw every option uniformly, with the numbers that ``Choice.draw`` would use."""
        return self.values(rng.integers(self._counts).tolist())

    def values(self, numbers: Iterable[int]) -> Iterable[Atom]:
        """Return the options of these numbers, one for each choice."""
        return map(getitem, self._options, numbers)

    def numbers(self, arch: Mapping[str, Value]) -> list[int] | None:
        """Return the numbers of the options taken; None if one is missing or no option."""
        labels = self.labels
        values = arch.at(labels) if isinstance(arch, Arch) else [arch.get(n) for n in labels]
        keys = zip(map(type, values), values, strict=True)
        try:
            numbers = list(map(dict[Any, int].get, self._positions, keys))
        except TypeError:  # unhashable, such as a tuple that holds a list
            return None
        return None if None in numbers else numbers  # type: ignore[return-value]


Step: TypeAlias = Decision | PlainChoices


def steps_of(choices: Iterable[Decision]) -> tuple[Step, ...]:
    """Return the decisions in their order, each longer run of plain choices as one."""
    taken: list[Step] = []
    for plain, group in groupby(choices, _is_plain):
        run = list(group)
        together = plain and len(run) >= FEWEST
        taken += [PlainChoices(run)] if together else run  # type: ignore[arg-type]
    return tuple(taken)


def _is_plain(decision: Decision) -> bool:
    """Return whether a decision opens nothing, and None means that it is not taken."""
    return isinstance(decision, Choice) and not decision.opens and decision.scalar


class Source(Protocol):
    """Where the values of a new architecture come from."""

    def value(self, decision: Decision) -> Value:
        """Return what a decision takes."""

    def values(self, choices: PlainChoices) -> Iterable[Value]:
        """Return what each of several choices takes, in order."""


class Picked:
    """Values that a function says.

    Args:
        pick: the function.
    """

    def __init__(self, pick: Callable[[Decision], Value]) -> None:
        self.value = pick

    def values(self, choices: PlainChoices) -> Iterable[Value]:
        """Return what the function says of each."""
        return map(self.value, choices.decisions.values())


class Drawn:
    """Values that are drawn uniformly, but those that are given.

    Args:
        rng: draws.
        given: by label.
    """

    def __init__(self, rng: np.random.Generator, given: Mapping[str, Value]) -> None:
        self._rng, self._given = rng, given

    def value(self, decision: Decision) -> Value:
        """Return the given value, or draw one."""
        label = decision.label
        return self._given[label] if label in self._given else decision.draw(self._rng)

    def values(self, choices: PlainChoices) -> Iterable[Value]:
        """Return the given values, the others drawn in their order."""
        given = self._given
        if not given:
            return choices.draw(self._rng)
        if isinstance(given, dict) and given.keys() >= choices.decisions.keys():
            return map(given.__getitem__, choices.labels)
        return map(self.value, choices.decisions.values())


class Numbered:
    """Values by the numbers of their options, in the order in which decisions are reached.

    Args:
        numbers: of a ``Choice`` the position of its option; of a ``Subset`` a bit mask.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers

    def value(self, decision: Decision) -> Value:
        """Return the value of the next number."""
        number, options = next(self._numbers), decision.options
        if isinstance(decision, Choice):
            return options[number]
        return tuple(option for i, option in enumerate(options) if number >> i & 1)

    def values(self, choices: PlainChoices) -> Iterable[Value]:
        """Return the values of the next numbers."""
        return choices.values(islice(self._numbers, len(choices.labels)))
