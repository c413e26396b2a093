"""The two kinds of decision: pick one option, or pick several of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Any, Protocol, TypeAlias

import numpy as np

from raynas.core.arch import Atom, Value
from raynas.core.errors import InvalidArch, InvalidSpace, nearest
from raynas.core.plain_values import SCALARS, plain_value, typed


class Subspace(Protocol):
    """What an option opens: of an ``ArchSpace`` a decision knows no more than its decisions."""

    @property
    def choices(self) -> tuple[Choice | Subset, ...]:
        """The decisions that are taken once the option is picked."""


@dataclass(frozen=True)
class Choice:
    """Pick one of ``options``; an option may open a space of further decisions.

    Options are strings, numbers, booleans, None, or tuples of these; NumPy's numbers become
    Python's and lists become tuples, so that they are what JSON gives back.
    """

    label: str
    options: tuple[Atom, ...]
    opens: Mapping[Atom, Subspace] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _checked(self.label, self.options, self.opens))

    @cached_property
    def positions(self) -> dict[tuple[type, object], int]:
        """The position of every option by its type and value: True is not 1, and 1.0 is not 1."""
        return {typed(option): i for i, option in enumerate(self.options)}

    @cached_property
    def scalar(self) -> bool:
        """Whether every option is a string, a number or a boolean, so that none stands for none."""
        return SCALARS.issuperset(map(type, self.options))

    def index(self, value: Value) -> int:
        """Return the position of ``value``; True is not 1, and 1.0 is not 1.

        Raises:
            InvalidArch: the value is none of the options.
        """
        try:
            at = self.positions.get(typed(value))
        except TypeError:  # unhashable, such as a tuple that holds a list
            at = None
        if at is None:
            hint = nearest(str(value), self.options)
            raise InvalidArch(f"{self.label!r} is {value!r}, not one of its options; {hint}")
        return at

    def __contains__(self, value: Value) -> bool:
        try:
            return typed(value) in self.positions
        except TypeError:
            return False

    def draw(self, rng: np.random.Generator) -> Value:
        """Draw an option uniformly."""
        return self.options[int(rng.integers(len(self.options)))]

    def count(self) -> int:
        """Return the number of values."""
        return len(self.options)

    def values(self) -> Iterator[Value]:
        """Yield every value in order."""
        return iter(self.options)

    def change(self, value: Value, rng: np.random.Generator) -> Value:
        """Draw one of the other options uniformly."""
        return self.changed(value, int(rng.integers(len(self.options) - 1)))

    def changes(self, value: Value) -> int:
        """Return how many other values there are."""
        return len(self.options) - 1

    def changed(self, value: Value, at: int) -> Value:
        """Return one of the other options, by its number among them."""
        return self.options[at + (at >= self.index(value))]

    def opened(self, value: Value) -> tuple[Subspace, ...]:
        """Return the spaces that ``value`` opens."""
        space = self.opens.get(value) if self.opens else None
        return () if space is None else (space,)

    def encode(self, value: Value) -> list[float]:
        """Return a one-hot vector of shape (options,)."""
        at = self.positions.get(typed(value))
        return [float(i == at) for i in range(len(self.options))]


@dataclass(frozen=True)
class Subset:
    """Pick ``k`` of ``options`` (any number of them if ``k`` is None), kept in their order.

    Every picked option may open a space of further decisions, as in a DARTS node that picks two
    of its sources and then an operation for each. Options are those of ``Choice``.
    """

    label: str
    options: tuple[Atom, ...]
    k: int | None
    opens: Mapping[Atom, Subspace] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _checked(self.label, self.options, self.opens))
        if self.k is not None and not 0 <= self.k <= len(self.options):
            raise InvalidSpace(f"{self.label!r} picks {self.k} of only {len(self.options)} options")

    @cached_property
    def _one(self) -> Choice:
        return Choice(self.label, self.options)

    def _positions(self, value: Value) -> list[int]:
        if not isinstance(value, tuple):
            raise InvalidArch(f"{self.label!r} is {value!r}, not a tuple of options")
        places = [self._one.index(atom) for atom in value]
        if places != sorted(set(places)):
            raise InvalidArch(f"{self.label!r} is {value!r}: repeated or not in the options' order")
        if self.k is not None and len(places) != self.k:
            raise InvalidArch(f"{self.label!r} is {value!r}: expected {self.k} of {self.options}")
        return places

    def __contains__(self, value: Value) -> bool:
        try:
            self._positions(value)
        except InvalidArch:
            return False
        return True

    def index(self, value: Value) -> int:
        """Return the set as a bit mask, the first option in the lowest bit.

        Raises:
            InvalidArch: the value is not such a set.
        """
        return sum(1 << at for at in self._positions(value))

    def draw(self, rng: np.random.Generator) -> Value:
        """Draw a set uniformly."""
        n = len(self.options)
        if self.k is None:
            kept = np.flatnonzero(rng.integers(2, size=n))
        else:
            kept = np.sort(rng.permutation(n)[: self.k])
        return tuple(self.options[i] for i in kept.tolist())

    def count(self) -> int:
        """Return the number of values."""
        n = len(self.options)
        return 2**n if self.k is None else comb(n, self.k)

    def values(self) -> Iterator[Value]:
        """Yield every value, smaller sets first."""
        sizes = range(len(self.options) + 1) if self.k is None else (self.k,)
        for size in sizes:
            yield from combinations(self.options, size)

    def change(self, value: Value, rng: np.random.Generator) -> Value:
        """Exchange one picked option for another, or add or remove one if ``k`` is None."""
        kept = set(self._positions(value))
        n = len(self.options)
        if self.k is None:
            kept ^= {int(rng.integers(n))}
        else:
            others = [i for i in range(n) if i not in kept]
            leaving = sorted(kept)[int(rng.integers(len(kept)))]
            kept = kept - {leaving} | {others[int(rng.integers(len(others)))]}
        return tuple(self.options[i] for i in sorted(kept))

    def changes(self, value: Value) -> int:
        """Return in how many ways one option is exchanged, or added or removed."""
        n = len(self.options)
        return n if self.k is None else self.k * (n - self.k)

    def changed(self, value: Value, at: int) -> Value:
        """Return the set after one of these changes, by its number."""
        kept = self._positions(value)
        n = len(self.options)
        if self.k is None:
            flipped = {at}
        else:
            leaving, joining = divmod(at, n - self.k)
            flipped = {kept[leaving], sorted({*range(n)}.difference(kept))[joining]}
        return tuple(self.options[i] for i in sorted(flipped.symmetric_difference(kept)))

    def opened(self, value: Value) -> tuple[Subspace, ...]:
        """Return the spaces that the picked options open."""
        picked = value if isinstance(value, tuple) else ()
        return tuple(self.opens[atom] for atom in picked if atom in self.opens)

    def encode(self, value: Value) -> list[float]:
        """Return a multi-hot vector of shape (options,)."""
        picked = value if isinstance(value, tuple) else ()
        return [float(option in picked) for option in self.options]


Decision: TypeAlias = Choice | Subset


def listed(where: str, options: Iterable[Any]) -> tuple[Any, ...]:
    """Return options, in any kind of list, as a tuple.

    Raises:
        InvalidSpace: they are no list.
    """
    if isinstance(options, str | bytes) or not isinstance(options, Iterable):
        raise InvalidSpace(f"{where}: expected a list of options, got {options!r}")
    return tuple(options)


def _checked(
    label: str, options: tuple[Atom, ...], opens: Mapping[Atom, Subspace]
) -> tuple[Atom, ...]:
    """Return the options as JSON gives them back, or raise InvalidSpace."""
    if not isinstance(label, str) or not label:
        raise InvalidSpace(f"a label is a non-empty string, got {label!r}")
    if not isinstance(options, tuple) or not options:
        raise InvalidSpace(f"{label!r} needs a non-empty tuple of options, got {options!r}")
    if not SCALARS.issuperset(map(type, options)):
        options = tuple(map(plain_value, options))
    for option in options:
        _check_option(label, option)
    if len(set(options)) < len(options):  # True and 1 as well: ``opens`` could not tell them apart
        raise InvalidSpace(f"{label!r} lists an option twice: {options}")
    if unknown := [option for option in opens if option not in options]:
        raise InvalidSpace(f"{label!r} opens {unknown}, which are not among {options}")
    return options


def _check_option(label: str, option: Atom) -> None:
    if isinstance(option, tuple):
        for part in option:
            _check_option(label, part)
    elif option is not None and type(option) not in SCALARS:  # no subclass comes back from JSON
        kind = type(option).__name__
        raise InvalidSpace(
            f"{label!r}: an option is a string, number, bool, None or a tuple of these, got a "
            f"{kind}"
        )
    elif isinstance(option, float) and not math.isfinite(option):
        raise InvalidSpace(f"{label!r}: an option is a finite number, got {option}")
