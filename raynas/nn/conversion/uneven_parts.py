"""Halves of odd numbers of channels: which of them may stay, so that all parts stay equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from raynas.nn.conversion.axes import Axes
from raynas.nn.conversion.labels import Parts
from raynas.nn.conversion.plan import ElasticAxis

NODES = 200  # of the search for whole numbers: a limit that is the same on every machine
GAP = 0.05  # of the distance from the shares that were asked for
Row = dict[int, float]  # by the number of a variable, what it is multiplied by
Constraint = tuple[Row, float, float]  # and the least and the most that their sum may be


class UnevenParts:
    """Chooses channels of axes of which equal parts consist.

    Every channel is 0 or 1. Parts keep equally many; where they are read in turns, as a shuffle
    does, the first that a part keeps comes before the first that the next one keeps, and so on.
    That is a whole-number program, which takes shares as near as possible to those asked for.

    Args:
        axes: that a trace has found.
        together: those that are chosen, by number.
        rectangles: equal parts, those without these axes among them.
    """

    def __init__(
        self, axes: Axes, together: Mapping[int, ElasticAxis], rectangles: list[Parts]
    ) -> None:
        self._axes, self._together = axes, together
        numbers = (n for cls, (n, _) in axes.unit_of.items() if n in together)
        self._sizes = {n: together[n].units for n in dict.fromkeys(numbers)}
        self._first = dict(
            zip(self._sizes, np.cumsum([0, *self._sizes.values()]).tolist(), strict=False)
        )
        self._count = sum(self._sizes.values())
        self._width = self._count + 1  # of all variables; after channels, how far off a share is
        self._leader = max(self._sizes, key=lambda number: self._sizes[number])
        self._rows = [row for rectangle in rectangles for row in self._of(rectangle)]

    def chosen(self) -> dict[int, ElasticAxis]:
        """Return the axes with one decision; nothing if no smaller share fits."""
        leader = self._together[self._leader]
        stay = [np.ones(self._count, dtype=bool)]
        for option in leader.options[1:]:
            fewer = self._solved(leader.kept(option) / leader.units, stay[-1])
            if fewer is not None and self._kept(leader, fewer) < self._kept(leader, stay[-1]):
                stay.append(fewer)
        if len(stay) < 2:
            return {}
        scale = leader.options[0] // leader.units
        options = tuple(self._kept(leader, some) * scale for some in stay)
        how_often = np.sum(stay, axis=0)
        made = {}
        for number, axis in self._together.items():
            here = slice(self._first[number], self._first[number] + axis.units)
            order = torch.from_numpy(np.argsort(-how_often[here], kind="stable"))
            made[number] = replace(
                axis,
                label=leader.label,
                options=options,
                keeps=tuple(int(some[here].sum()) for some in stay),
                places={place: positions[order] for place, positions in axis.places.items()},
            )
        return made

    def _kept(self, axis: ElasticAxis, stay: NDArray[np.bool_]) -> int:
        number = next(n for n, other in self._together.items() if other is axis)
        return int(stay[self._first[number] : self._first[number] + axis.units].sum())

    def _of(self, rectangle: Parts) -> Iterator[Constraint]:
        """Yield the constraints of equal parts."""
        classes = self._axes.class_of[rectangle.labels.numpy()]
        terms = [[self._variable(cls) for cls in row] for row in classes.tolist()]
        if not any(variable >= 0 for row in terms for variable in row):
            return
        for one, other in pairwise(terms):
            yield self._difference(one, other, 0, 0)
        if not rectangle.in_turns:
            return
        for one, other in pairwise(terms):
            yield from self._in_turns(one, other)

    def _in_turns(self, one: list[int], other: list[int]) -> Iterator[Constraint]:
        """Let one part be ahead of the other by one channel at most, from the first on.

        By how many it is ahead is a variable of its own at each channel: few numbers in many
        constraints are faster than sums.
        """
        before: Row = {}
        for a, b in zip(one, other, strict=True):
            ahead, least, most = self._difference([a], [], 0, 1)
            yield before | ahead, least, most
            after, self._width = {self._width: 1.0}, self._width + 1
            row, least, most = self._difference([a], [b], 0, 0)
            yield {v: -1.0 for v in after} | before | row, least, most
            before = after

    def _variable(self, cls: int) -> int:
        """Return the variable of a class of labels, -1 if it stays."""
        number, unit = self._axes.unit_of.get(cls, (-1, 0))
        return self._first[number] + unit if number in self._first else -1

    def _difference(self, one: list[int], other: list[int], least: int, most: int) -> Constraint:
        row: Row = {}
        constant = 0
        for sign, variables in ((1, one), (-1, other)):
            for variable in variables:
                if variable < 0:
                    constant += sign
                else:
                    row[variable] = row.get(variable, 0) + sign
        return row, least - constant, most - constant

    def _solved(self, share: float, within: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """Return which channels stay of some, as near to a share of the widest axis as possible."""
        first, size = self._first[self._leader], self._sizes[self._leader]
        units = dict.fromkeys(range(first, first + size), 1.0)
        off, target = self._count, share * size
        rows = [
            *self._rows,
            (units | {off: -1.0}, -np.inf, target),
            (units | {off: 1.0}, target, np.inf),
        ]
        width = self._width
        entries = [(r, c, v) for r, (row, _, _) in enumerate(rows) for c, v in row.items()]
        lines, columns, values = zip(*entries, strict=True)
        matrix = coo_matrix((values, (lines, columns)), (len(rows), width)).tocsc()
        most = np.ones(width)
        most[: self._count], most[off] = within, np.inf
        costs, whole = np.zeros(width), np.zeros(width)
        costs[off], whole[: self._count] = 1, 1
        result = milp(
            costs,
            constraints=LinearConstraint(matrix, [x[1] for x in rows], [x[2] for x in rows]),
            integrality=whole,
            bounds=Bounds(np.zeros(width), most),
            options={"node_limit": NODES, "mip_rel_gap": GAP},
        )
        return None if result.x is None else result.x[: self._count] > 0.5
