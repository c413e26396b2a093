"""Keeping proposals within bounds that can be checked before anything is evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.constraints import Constraint
from raynas.core.neighbours import neighbours

STEPS = 100  # mutations tried to bring one architecture within the bounds
STARTS = 4  # of descents to an architecture within the bounds
LOOKED = 3000  # architectures that all of them look at, at most

Cheap = Callable[[Arch], Mapping[str, float]]


class Violation:
    """By how much an architecture exceeds bounds, 0 where it keeps them all.

    Args:
        constraints: on metrics that ``cheap`` gives.
        cheap: metrics of an architecture, without evaluating it.
    """

    def __init__(self, constraints: Sequence[Constraint], cheap: Cheap) -> None:
        self.constraints, self._cheap = tuple(constraints), cheap
        self._inside: tuple[Arch | None] | None = None

    def __call__(self, arch: Arch) -> float:
        """Return the sum over constraints of the excess, as a share of the bound."""
        metrics = self.costs(arch)
        return sum(excess(one, metrics[one.metric]) for one in self.constraints)

    def costs(self, arch: Arch) -> Mapping[str, float]:
        """Return what is known of an architecture without evaluating it."""
        return self._cheap(arch)

    def inside(self, space: ArchSpace) -> Arch | None:
        """Return an architecture that keeps the bounds by far, the same at every call.

        None if single changes lead from no random one to any that keeps them.

        Args:
            space: whose bounds these are.
        """
        if self._inside is None:
            self._inside = (_descended(space, self),)
        return self._inside[0]

    def slack(self, arch: Arch) -> float:
        """Return how far the nearest bound lies, as a share of it; negative beyond it."""
        metrics = self.costs(arch)
        return min(slack(one, metrics[one.metric]) for one in self.constraints)

    def __str__(self) -> str:
        return " and ".join(map(str, self.constraints))


def excess(constraint: Constraint, value: float) -> float:
    """Return how far a value lies outside, as a share of the bound that it breaks.

    >>> excess(Constraint("macs", high=50.0), 60.0), excess(Constraint("macs", high=50.0), 50.0)
    (0.2, 0.0)
    """
    if math.isnan(value):  # what could not be measured
        return math.inf
    over = 0.0
    for bound, gap in (
        (constraint.high, value - (constraint.high or 0.0)),
        (constraint.low, (constraint.low or 0.0) - value),
    ):
        if bound is not None and gap > 0:
            over += gap / (abs(bound) or 1.0)
    return over


def slack(constraint: Constraint, value: float) -> float:
    """Return how far the nearer end lies, as a share of it; negative beyond it.

    >>> slack(Constraint("macs", low=10.0, high=50.0), 45.0)
    0.1
    """
    if math.isnan(value):
        return -math.inf
    ends = (constraint.high, 1), (constraint.low, -1)
    return min(sign * (end - value) / (abs(end) or 1.0) for end, sign in ends if end is not None)


def repaired(space: ArchSpace, arch: Arch, rng: np.random.Generator) -> Arch | None:
    """Return an architecture within the space's bounds, reached by changes; None if none is.

    Mutations that do not raise the violation are kept, so that an architecture within the bounds
    comes back as it is, and others end close to the bounds that they broke. Where a hundred do not
    lead there, as few decisions as will do, in random order, are taken from an architecture that is
    known to keep the bounds.
    """
    violation = space.violation
    if violation is None or (now := violation(arch)) == 0.0:
        return arch
    for _ in range(STEPS):
        other = space.mutate(arch, rng)
        then = violation(other)
        if then <= now:
            arch, now = other, then
        if now == 0.0:
            return arch
    inside = violation.inside(space) if isinstance(violation, Violation) else None
    return None if inside is None else _towards(space, arch, inside, rng)


def _towards(space: ArchSpace, arch: Arch, inside: Arch, rng: np.random.Generator) -> Arch:
    """Return what keeps the bounds on a way of single changes from one architecture to another.

    Halved until a change apart: before it lies one that breaks them.
    """
    assert space.violation is not None
    labels = list(inside)
    order = [labels[i] for i in rng.permutation(len(labels))]
    few, enough, best = 0, len(order), inside
    while enough - few > 1:
        half = (few + enough) // 2
        given = {**inside, **arch, **{label: inside[label] for label in order[:half]}}
        other = space.sample(rng, given)
        if space.violation(other) == 0.0:
            enough, best = half, other
        else:
            few = half
    return best


def _descended(space: ArchSpace, violation: Violation) -> Arch | None:
    """Return an architecture within the bounds, by single changes: first into, then away from them.

    Far inside, a way from any other architecture crosses the bounds early.
    """
    rng = np.random.default_rng(0)
    left = LOOKED

    def climbed(arch: Arch, height: Callable[[Arch], float], enough: float) -> Arch:
        nonlocal left
        now, going = height(arch), True
        while going and now < enough:
            going = False
            for other in neighbours(space, arch, rng):
                left -= 1
                if left < 0:
                    return arch
                if (then := height(other)) > now:
                    arch, now, going = other, then, True
                    break
        return arch

    for _ in range(STARTS):
        arch = climbed(space.sample(rng), lambda other: -violation(other), 0.0)
        if violation(arch) == 0.0:
            return climbed(arch, violation.slack, math.inf)
    return None
