"""A tree of decisions as named categorical parameters, for what decides one of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset

LISTED = 64  # subsets with at most so many values are one parameter, others one per option

Pick = Callable[[str, int], int]  # from a parameter's name and its number of values to one of them


def decide(space: ArchSpace, value: Callable[[Decision], Value], rng: np.random.Generator) -> Arch:
    """Return the architecture that takes ``value`` at every decision it reaches, in order.

    >>> decide(ArchSpace.of(depth=[2, 3]), lambda d: d.options[-1], np.random.default_rng(0))
    Arch({'depth': 3})
    """
    return space.sample(rng, _OnDemand(space.decisions, value))


class _OnDemand(Mapping[str, Value]):
    """Every label's value, computed when it is read."""

    def __init__(self, decisions: dict[str, Decision], value: Callable[[Decision], Value]) -> None:
        self._decisions, self._value = decisions, value

    def __getitem__(self, label: str) -> Value:
        return self._value(self._decisions[label])

    def __contains__(self, label: object) -> bool:
        return label in self._decisions

    def __iter__(self) -> Iterator[str]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)


def picked(decision: Decision, pick: Pick, rng: np.random.Generator) -> Value:
    """Return a decision's value from one or more parameters.

    A large subset whose options are picked one by one, and of which a fixed number is wanted, loses
    or gains random ones until the number is right.
    """
    names = parameters(decision)
    numbers = [pick(name, count) for name, count in names.items()]
    if isinstance(decision, Choice):
        return decision.options[numbers[0]]
    if decision.count() <= LISTED:
        return list(decision.values())[numbers[0]]
    bits = np.array(numbers, dtype=bool)
    if decision.k is not None:
        while (surplus := int(bits.sum()) - decision.k) != 0:
            bits[rng.choice(np.flatnonzero(bits == (surplus > 0)))] ^= True
    return tuple(o for o, bit in zip(decision.options, bits, strict=True) if bit)


def parameters(decision: Decision) -> dict[str, int]:
    """Return the number of values by parameter; no two decisions share a name."""
    if isinstance(decision, Choice) or decision.count() <= LISTED:
        return {f"={decision.label}": decision.count()}
    return {f"{i}@{decision.label}": 2 for i in range(len(decision.options))}


def numbers_of(decision: Decision, value: Value) -> dict[str, int]:
    """Return the parameters that a value stands for."""
    names = parameters(decision)
    if isinstance(decision, Subset):
        if decision.count() > LISTED:
            mask = decision.index(value)
            return {name: mask >> i & 1 for i, name in enumerate(names)}
        return dict.fromkeys(names, list(decision.values()).index(value))
    return dict.fromkeys(names, decision.index(value))
