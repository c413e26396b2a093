"""Keeping proposals within bounds that can be checked before anything is evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.constraints import Constraint

STEPS = 300  # mutations tried to bring one architecture within the bounds

Cheap = Callable[[Arch], Mapping[str, float]]


class Violation:
    """By how much an architecture exceeds bounds, 0 where it keeps them all.

    Args:
        constraints: on metrics that ``cheap`` gives.
        cheap: metrics of an architecture, without evaluating it.
    """

    def __init__(self, constraints: Sequence[Constraint], cheap: Cheap) -> None:
        self.constraints, self._cheap = tuple(constraints), cheap

    def __call__(self, arch: Arch) -> float:
        """Return the sum over constraints of the excess, as a share of the bound."""
        metrics = self.costs(arch)
        return sum(excess(one, metrics[one.metric]) for one in self.constraints)

    def costs(self, arch: Arch) -> Mapping[str, float]:
        """Return what is known of an architecture without evaluating it."""
        return self._cheap(arch)

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


def repaired(space: ArchSpace, arch: Arch, rng: np.random.Generator) -> Arch | None:
    """Return an architecture within the space's bounds, reached by mutations; None if none is.

    Mutations that do not raise the violation are kept, so that an architecture within the bounds
    comes back as it is, and others end close to the bounds that they broke.
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
    return None
