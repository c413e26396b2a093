"""A search space as a value: a tree of decisions, and the architectures that it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Arch, Atom, Value
from raynas.core.decision import Choice, Decision
from raynas.core.errors import InvalidArch, InvalidSpace, nearest

Order = tuple[Decision, ...]


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
    def of(cls, **choices: Sequence[Atom]) -> ArchSpace:
        """Return a flat space of one ``Choice`` per keyword."""
        return cls(tuple(Choice(label, tuple(options)) for label, options in choices.items()))

    @cached_property
    def decisions(self) -> dict[str, Decision]:
        """Every decision of the tree by label, in the tree's order."""
        return {decision.label: decision for decision in _walk(self.choices, set())}

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label of the tree, in the tree's order."""
        return tuple(self.decisions)

    def sample(self, rng: np.random.Generator, given: Mapping[str, Value] | None = None) -> Arch:
        """Draw every reached decision that ``given`` leaves open, each uniformly."""
        fixed = given or {}
        return self.decided(lambda d: fixed[d.label] if d.label in fixed else d.draw(rng))

    def decided(self, pick: Callable[[Decision], Value]) -> Arch:
        """Return the architecture of what ``pick`` says of every reached decision, in order."""
        taken: dict[str, Value] = {}
        _fill(self.choices, taken, pick)
        return Arch(taken)

    def canonical(self, arch: Arch) -> Arch:
        """Return the architecture that stands for all that are isomorphic to ``arch``."""
        return arch if self.isomorphism is None else self.isomorphism(arch)

    def reached(self, arch: Mapping[str, Value]) -> dict[str, Decision]:
        """Return the decisions that ``arch`` passes through, in order.

        Raises:
            InvalidArch: a reached decision is missing or its value is none of its options.
        """
        reached: dict[str, Decision] = {}
        _reach(self.choices, arch, reached)
        return reached

    def check(self, arch: Mapping[str, Value]) -> None:
        """Raise InvalidArch, naming the label, unless this space holds ``arch``."""
        for label in arch:
            if label not in self.decisions:
                hint = nearest(label, self.decisions)
                raise InvalidArch(f"no decision is labelled {label!r}; {hint}")
        reached = self.reached(arch)
        for label in arch:
            if label not in reached:
                raise InvalidArch(f"{label!r} is decided but not reached by the other values")

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """Change exactly one reached decision; what it newly opens is drawn uniformly.

        Raises:
            InvalidSpace: no reached decision has a second value.
        """
        free = [decision for decision in self.reached(arch).values() if decision.count() > 1]
        if not free:
            raise InvalidSpace("no reached decision has a second value: nothing can be mutated")
        decision = free[int(rng.integers(len(free)))]
        changed = decision.change(arch[decision.label], rng)
        return self.sample(rng, {**arch, decision.label: changed})

    def cross(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Take every decision from one of two parents at random (uniform crossover)."""
        labels = sorted({*first, *second})
        coins = rng.integers(2, size=len(labels))
        pick = {
            label: (first if (coin and label in first) or label not in second else second)[label]
            for label, coin in zip(labels, coins, strict=True)
        }
        return self.sample(rng, pick)

    def encode(self, arch: Mapping[str, Value]) -> NDArray[np.float32]:
        """Return concatenated one-hot and multi-hot vectors, shape (features,)."""
        parts = (decision.encode(arch.get(label)) for label, decision in self.decisions.items())
        return np.asarray([x for part in parts for x in part], dtype=np.float32)

    def size(self) -> int:
        """Return the number of architectures, exact also where labels are shared."""
        return _Counter().count(self.choices)

    def __iter__(self) -> Iterator[Arch]:
        """Yield every architecture once."""
        for taken in _enumerate(self.choices, {}):
            yield Arch(taken)

    def pack(self, arch: Arch) -> str:
        """Return a short text for one architecture: option numbers of its reached decisions."""
        reached = self.reached(arch)
        return ".".join(format(d.index(arch[label]), "x") for label, d in reached.items())

    def unpack(self, text: str) -> Arch:
        """Read what ``pack`` wrote."""
        numbers = iter(text.split(".") if text else ())

        def read(decision: Decision) -> Value:
            number, options = int(next(numbers), 16), decision.options
            if isinstance(decision, Choice):
                return options[number]
            return tuple(o for i, o in enumerate(options) if number >> i & 1)

        return self.decided(read)


def _walk(decisions: Order, seen: set[int]) -> Iterator[Decision]:
    """Yield the decisions and all that they open, parents first."""
    for decision in decisions:
        if id(decision) not in seen:  # a space opened in many places is walked once
            seen.add(id(decision))
            yield decision
            for space in decision.opens.values():
                yield from _walk(space.choices, seen)


def _fill(decisions: Order, taken: dict[str, Value], pick: Callable[[Decision], Value]) -> None:
    """Add to ``taken`` what ``pick`` says of the decisions and of those that they open."""
    for decision in decisions:
        if decision.label not in taken:
            taken[decision.label] = pick(decision)
        for space in decision.opened(taken[decision.label]):
            _fill(space.choices, taken, pick)


def _reach(decisions: Order, arch: Mapping[str, Value], reached: dict[str, Decision]) -> None:
    """Add to ``reached`` the decisions, and those that the values of ``arch`` open."""
    for decision in decisions:
        label = decision.label
        if label not in arch:
            raise InvalidArch(f"{label!r} is not decided; expected {_domain(decision)}")
        value = arch[label]
        decision.index(value)
        reached[label] = decision
        for space in decision.opened(value):
            _reach(space.choices, arch, reached)


def _same(first: Decision, other: Decision) -> bool:
    """Return whether two decisions are one; True and 1, or 1.0, are different options."""
    kinds = [list(map(type, decision.options)) for decision in (first, other)]
    return first == other and kinds[0] == kinds[1]


def _domain(decision: Decision) -> str:
    kind = "one of" if isinstance(decision, Choice) else f"{decision.k} of"
    opens = " opening " + ", ".join(map(str, decision.opens)) if decision.opens else ""
    return f"{kind} {list(decision.options)}{opens}"


def _pending(decision: Decision, value: Value, rest: Order) -> Order:
    """Return what is still to be decided once ``decision`` has taken ``value``."""
    opened = decision.opened(value)
    return tuple(d for space in opened for d in space.choices) + rest if opened else rest


def _enumerate(pending: Order, taken: dict[str, Value]) -> Iterator[dict[str, Value]]:
    if not pending:
        yield dict(taken)
        return
    decision, rest = pending[0], pending[1:]
    if decision.label in taken:
        yield from _enumerate(_pending(decision, taken[decision.label], rest), taken)
        return
    for value in decision.values():
        taken[decision.label] = value
        yield from _enumerate(_pending(decision, value, rest), taken)
        del taken[decision.label]


class _Counter:
    """Counts architectures: a product over decisions that share no label, a sum within the rest.

    Once a label is decided, its later places add nothing: they take the same value and open the
    same spaces. So a state is the set of labels still pending and those already decided.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[frozenset[str], frozenset[str]], int] = {}
        self._under: dict[str, frozenset[str]] = {}

    def count(self, pending: Iterable[Decision], decided: frozenset[str] = frozenset()) -> int:
        """Return in how many ways the pending decisions, and what they open, can be taken."""
        open_ = {d.label: d for d in pending if d.label not in decided}
        total = 1
        for group in self._groups(list(open_.values())):
            total *= self._together(group, decided)
        return total

    def _together(self, group: list[Decision], decided: frozenset[str]) -> int:
        first, rest = group[0], group[1:]
        if not rest and not first.opens:
            return first.count()
        under = frozenset[str]().union(*(self._labels(decision) for decision in group))
        state = frozenset(d.label for d in group), decided & under
        if state not in self._known:
            taken = decided | {first.label}
            self._known[state] = sum(
                self.count(_pending(first, value, tuple(rest)), taken) for value in first.values()
            )
        return self._known[state]

    def _groups(self, pending: list[Decision]) -> list[list[Decision]]:
        """Split the decisions so that no label stands under two groups."""
        groups: list[tuple[list[Decision], frozenset[str]]] = []
        for decision in pending:
            members, under = [decision], self._labels(decision)
            apart = []
            for group, labels in groups:
                if labels.isdisjoint(under):
                    apart.append((group, labels))
                else:
                    members, under = [*group, *members], under | labels
            groups = [*apart, (members, under)]
        return [members for members, _ in groups]

    def _labels(self, decision: Decision) -> frozenset[str]:
        """Return the labels of the decision and of all below it."""
        if decision.label not in self._under:
            inner = (d for space in decision.opens.values() for d in space.choices)
            below = frozenset[str]().union(*map(self._labels, inner))
            self._under[decision.label] = below | {decision.label}
        return self._under[decision.label]
