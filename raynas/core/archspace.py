"""A search space as a value: a tree of decisions, and the architectures that it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Arch, Value
from raynas.core.decision import Choice, Decision, listed
from raynas.core.enumeration import all_ways, size_of
from raynas.core.errors import InvalidArch, InvalidSpace, nearest
from raynas.core.flat_check import FlatCheck
from raynas.core.plain_choices import (
    Drawn,
    Numbered,
    Picked,
    PlainChoices,
    Source,
    Step,
    steps_of,
)
from raynas.core.plain_values import typed

_HEX = [format(number, "x") for number in range(256)]


@dataclass(frozen=True)
class ArchSpace:
    """A product of decisions, some of which open further ones.

    The same label means the same decision wherever it stands; an architecture holds the labels
    that it reaches and no others.

    >>> space = ArchSpace.of(depth=[2, 3], width=[16, 32, 64])
    >>> space.size(), space.labels
    (6, ('depth', 'width'))
    >>> space.sample(np.random.default_rng(0)) in list(space)
    True

    Args:
        choices: the decisions that every architecture takes.
        isomorphism: maps every architecture to the one that stands for all that compute the same;
            None if no two do. It is no part of the space's value, and only the root's counts.
        violation: by how much an architecture exceeds bounds that are known beforehand, 0 if it
            keeps them; samplers propose only such. None without bounds; otherwise as isomorphism.

    Raises:
        InvalidSpace: one label stands for two different decisions.
    """

    choices: tuple[Decision, ...] = ()
    isomorphism: Callable[[Arch], Arch] | None = field(
        default=None, compare=False, repr=False, hash=False
    )
    violation: Callable[[Arch], float] | None = field(
        default=None, compare=False, repr=False, hash=False
    )

    def __post_init__(self) -> None:
        known: dict[str, Decision] = {}
        for decision in _walk(self.choices, set()):
            first = known.setdefault(decision.label, decision)
            if first is not decision and not _same(first, decision):
                raise InvalidSpace(
                    f"label {decision.label!r} stands for two decisions: {_domain(first)} and "
                    f"{_domain(decision)}; give one of them another label"
                )

    @classmethod
    def of(cls, **choices: Iterable[Any]) -> ArchSpace:
        """Return a flat space of one ``Choice`` per keyword."""
        lists = ((label, listed(repr(label), options)) for label, options in choices.items())
        return cls(tuple(Choice(label, options) for label, options in lists))

    @cached_property
    def decisions(self) -> dict[str, Decision]:
        """Every decision of the tree by label, in the tree's order."""
        return {decision.label: decision for decision in _walk(self.choices, set())}

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label of the tree, in the tree's order."""
        return tuple(self.decisions)

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        return steps_of(self.choices)

    def sample(self, rng: np.random.Generator, given: Mapping[str, Value] | None = None) -> Arch:
        """Draw every reached decision that ``given`` leaves open, each uniformly."""
        return self._filled(Drawn(rng, given or {}))

    def decided(self, pick: Callable[[Decision], Value]) -> Arch:
        """Return the architecture of what ``pick`` says of every reached decision, in order."""
        return self._filled(Picked(pick))

    def _filled(self, source: Source) -> Arch:
        taken: dict[str, Value] = {}
        _fill(self._steps, taken, source)
        return Arch(taken)

    def canonical(self, arch: Arch) -> Arch:
        """Return the architecture that stands for all that are isomorphic to ``arch``."""
        return arch if self.isomorphism is None else self.isomorphism(arch)

    def reached(self, arch: Mapping[str, Value]) -> dict[str, Decision]:
        """Return the decisions that ``arch`` passes through, in order.

        Raises:
            InvalidArch: a reached decision is missing or its value is none of its options.
        """
        return {label: self.decisions[label] for label in self._numbers(arch)}

    def _numbers(self, arch: Mapping[str, Value]) -> dict[str, int]:
        """Return the option numbers of the reached decisions, in order; raise as ``reached``."""
        numbers: dict[str, int] = {}
        _number(self._steps, arch, numbers)
        return numbers

    @cached_property
    def _flat(self) -> FlatCheck | None:
        return FlatCheck.of(self.choices)

    def check(self, arch: Mapping[str, Value]) -> None:
        """Raise InvalidArch, naming the label, unless this space holds ``arch``."""
        if self._flat is not None and self._flat.holds(arch):
            return
        decisions = self.decisions
        for label in arch:
            if label not in decisions:
                hint = nearest(label, decisions)
                raise InvalidArch(f"no decision is labelled {label!r}; {hint}")
        reached = self._numbers(arch)
        for label in arch:
            if label not in reached:
                raise InvalidArch(f"{label!r} is decided but not reached by the other values")

    @cached_property
    def _free(self) -> dict[str, Decision]:
        """The decisions that have a second value."""
        return {label: d for label, d in self.decisions.items() if d.count() > 1}

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """Change exactly one reached decision; what it newly opens is drawn uniformly.

        Raises:
            InvalidSpace: no reached decision has a second value.
        """
        known = self._free  # looked up once: there may be a thousand decisions
        free = [label for label in self._numbers(arch) if label in known]
        if not free:
            raise InvalidSpace("no reached decision has a second value: nothing can be mutated")
        decision = known[free[int(rng.integers(len(free)))]]
        changed = decision.change(arch[decision.label], rng)
        return self.sample(rng, arch | {decision.label: changed})

    def cross(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Take every decision from one of two parents at random (uniform crossover)."""
        labels = sorted(first.keys() | second.keys())
        coins = rng.integers(2, size=len(labels)).tolist()
        pick = {
            label: (first if (coin and label in first) or label not in second else second)[label]
            for label, coin in zip(labels, coins, strict=True)
        }
        return self.sample(rng, pick)

    def encode(self, arch: Mapping[str, Value]) -> NDArray[np.float32]:
        """Return concatenated one-hot and multi-hot vectors, shape (features,)."""
        parts = (
            decision.encode(arch[label]) if label in arch else [0.0] * len(decision.options)
            for label, decision in self.decisions.items()
        )
        return np.asarray([x for part in parts for x in part], dtype=np.float32)

    def size(self) -> int:
        """Return the number of architectures, exact also where labels are shared."""
        return self._size

    @cached_property
    def _size(self) -> int:
        return size_of(self.choices)

    def __iter__(self) -> Iterator[Arch]:
        """Yield every architecture once."""
        return map(Arch, all_ways(self.choices))

    def pack(self, arch: Arch) -> str:
        """Return a short text for one architecture: option numbers of its reached decisions."""
        numbers = self._numbers(arch).values()
        return ".".join([_HEX[n] if n < len(_HEX) else format(n, "x") for n in numbers])

    def unpack(self, text: str) -> Arch:
        """Read what ``pack`` wrote."""
        numbers = (int(number, 16) for number in text.split(".")) if text else iter(())
        return self._filled(Numbered(numbers))


def _walk(decisions: Iterable[Decision], seen: set[int]) -> Iterator[Decision]:
    """Yield the decisions and all that they open, parents first."""
    for decision in decisions:
        if id(decision) not in seen:  # a space opened in many places is walked once
            seen.add(id(decision))
            yield decision
            for space in decision.opens.values():
                yield from _walk(space.choices, seen)


def _fill(steps: Iterable[Step], taken: dict[str, Value], source: Source) -> None:
    """Add to ``taken`` what ``source`` says of the decisions and of those that they open."""
    for step in steps:
        if isinstance(step, PlainChoices):
            if taken.keys().isdisjoint(step.labels):
                taken.update(zip(step.labels, source.values(step), strict=True))
            else:
                _fill(step.decisions.values(), taken, source)
            continue
        if step.label not in taken:
            taken[step.label] = source.value(step)
        for space in step.opened(taken[step.label]):
            _fill(space.choices, taken, source)


def _number(steps: Iterable[Step], arch: Mapping[str, Value], numbers: dict[str, int]) -> None:
    """Add to ``numbers`` those of the decisions, and of those that the values of ``arch`` open."""
    for step in steps:
        if isinstance(step, PlainChoices):
            if (own := step.numbers(arch)) is not None:
                numbers.update(zip(step.labels, own, strict=True))
            else:  # one by one, to say which is wrong
                _number(step.decisions.values(), arch, numbers)
            continue
        if step.label not in arch:
            raise InvalidArch(f"{step.label!r} is not decided; expected {_domain(step)}")
        value = arch[step.label]
        numbers[step.label] = step.index(value)
        for space in step.opened(value):
            _number(space.choices, arch, numbers)


def _same(first: Decision, other: Decision) -> bool:
    """Return whether two decisions are one; True and 1, or 1.0, are different options."""
    kinds = [list(map(typed, decision.options)) for decision in (first, other)]
    return first == other and kinds[0] == kinds[1]


def _domain(decision: Decision) -> str:
    kind = "one of" if isinstance(decision, Choice) else f"{decision.k} of"
    opens = " opening " + ", ".join(map(str, decision.opens)) if decision.opens else ""
    return f"{kind} {list(decision.options)}{opens}"
