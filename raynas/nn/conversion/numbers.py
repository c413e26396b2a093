"""Which whole numbers of modules follow which axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import prod
from typing import Any

import torch
from torch import nn

from raynas.nn.conversion.axes import Axes, Axis, Count, Uneven
from raynas.nn.conversion.counts import Monomials, Origin
from raynas.nn.conversion.labels import NONE
from raynas.nn.conversion.trace import Follows, Place, Trace

Counts = dict[Origin, Count]
UNEVEN = "a shape splits it unevenly"


class Numbers:
    """Finds how whole numbers follow axes, so that each shape that is computed of them fits.

    Args:
        trace: after its run.
        axes: that it has found.
        model: that ran.

    Attributes:
        counts: of the numbers that follow axes.
    """

    def __init__(self, trace: Trace, axes: Axes, model: nn.Module) -> None:
        self.axes, self.model = axes, model
        self.counts: Counts = {}
        self._constant: set[Origin] = set()
        self._wrong: dict[int, str] = {}
        wanted = [pair for follows in trace.follows if (pair := self._wanted(follows))]
        for monomials, count in wanted:
            self._take_alone(monomials, count)
        for monomials, count in wanted:
            self._take_computed(monomials, count)

    def sound(self, axes: Iterable[Axis], reasons: dict[Place, str]) -> list[Axis]:
        """Return the axes that numbers can follow; the others gain a reason."""
        left = []
        for axis in axes:
            if axis.number in self._wrong:
                reasons |= dict.fromkeys(axis.places, self._wrong[axis.number])
            else:
                left.append(axis)
        return left

    def _wanted(self, follows: Follows) -> tuple[Monomials, Count] | None:
        distinct, times = torch.unique(follows.labels, return_counts=True)
        classes = {int(self.axes.class_of[label]) for label in distinct.tolist()}
        if len(classes - {int(self.axes.class_of[NONE])}) < 2:  # inside of a unit, or of none
            if len(follows.monomials) == 1 and len(next(iter(follows.monomials))) == 1:
                self._constant |= {origin for key in follows.monomials for origin in key}
            return None
        try:
            count = self.axes.count(distinct, times)
        except Uneven:
            inside = [self.axes.unit_of[cls][0] for cls in classes if cls in self.axes.unit_of]
            self._wrong |= dict.fromkeys(inside, UNEVEN)
            return None
        return (follows.monomials, count) if count.per_unit else None

    def _take_alone(self, monomials: Monomials, count: Count) -> None:
        """Take a number that is an attribute itself."""
        if len(monomials) != 1:
            return
        ((key, factor),) = monomials.items()
        if len(key) != 1 or factor != 1:
            return
        if self.counts.setdefault(key[0], count) != count:
            where = f"{key[0].module}.{key[0].attribute} counts several things"
            both = (*count.per_unit, *self.counts[key[0]].per_unit)
            self._wrong |= dict.fromkeys(both, where)

    def _take_computed(self, monomials: Monomials, count: Count) -> None:
        """Find which attributes must follow for a computed number to fit; none if that is so."""
        if len(count.per_unit) != 1:
            return
        ((axis, _),) = count.per_unit.items()
        units = self.axes.axes[axis].units
        origins = sorted({origin for key in monomials for origin in key}, key=str)
        free = [
            origin
            for origin in origins
            if origin not in self.counts
            and origin not in self._constant
            and value_of(self.model, origin) % units == 0
        ]
        for size in range(len(free) + 1):
            for chosen in combinations(free, size):
                scaled = {
                    origin: Count(0, {axis: value_of(self.model, origin) // units})
                    for origin in chosen
                }
                if self._fits(monomials, count, axis, self.counts | scaled):
                    self.counts |= scaled
                    return

    def _fits(
        self, monomials: Monomials, count: Count, axis: int, counts: Mapping[Origin, Count]
    ) -> bool:
        units = {each.number: each.units for each in self.axes.axes}
        for kept in (units[axis], max(units[axis] // 2, 1), 1):
            sizes = units | {axis: kept}
            values = {
                origin: counts[origin].at(sizes)
                if origin in counts
                else value_of(self.model, origin)
                for key in monomials
                for origin in key
            }
            total = sum(n * prod(values[o] for o in key) for key, n in monomials.items())
            if total != count.at(sizes):
                return False
        return True


def value_of(model: nn.Module, origin: Origin) -> int:
    """Return the whole number that stands there."""
    held: Any = vars(model.get_submodule(origin.module))[origin.attribute]
    if origin.at is None:
        return int(held)
    return int(vars(held)[origin.at] if isinstance(origin.at, str) else held[origin.at])
