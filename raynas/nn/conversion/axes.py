"""The axes along which a model may become smaller, read from what a trace has seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.nn.conversion.labels import NONE
from raynas.nn.conversion.trace import Place, Trace


@dataclass
class Axis:
    """Units that may be left out from the last on, wherever they lie.

    Attributes:
        number: position among the model's axes.
        units: how many there are.
        places: by tensor and dimension, the positions of each unit, shape (units, width).
        statistic: whether something is computed over the units together, so that leaving one out
            is not the same as setting it to zero.
        attention: whether its units are heads of attention.
        paths: of the modules that hold it, in the order of the pass.
    """

    number: int
    units: int
    places: dict[Place, Tensor]
    statistic: bool = False
    attention: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the modules whose tensors it lies in, in the order of the pass."""
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name, _ in self.places))


@dataclass(frozen=True)
class Count:
    """A number of positions that are kept: a constant, and so many for each unit of axes.

    Attributes:
        constant: positions that stay.
        per_unit: by the number of the axis.
    """

    constant: int
    per_unit: Mapping[int, int] = field(default_factory=dict)

    def at(self, kept: Mapping[int, int]) -> int:
        """Return the number where so many units of each axis are kept."""
        return self.constant + sum(width * kept[axis] for axis, width in self.per_unit.items())


class Uneven(Exception):
    """Positions of which units do not have equally many."""


@dataclass
class Axes:
    """What a trace says of a model's axes.

    Attributes:
        axes: in the order of the pass.
        reasons: why dimensions of tensors stay as they are.
        class_of: by label.
        unit_of: by class, (axis, unit).
    """

    axes: list[Axis]
    reasons: dict[Place, str]
    class_of: NDArray[np.int64]
    unit_of: dict[int, tuple[int, int]]

    def count(self, distinct: Tensor, times: Tensor) -> Count:
        """Return how many of these labels are kept, each so many times.

        Raises:
            Uneven: units of one axis do not stand there equally often.
        """
        constant, of_units = 0, defaultdict[tuple[int, int], int](int)
        for label, number in zip(distinct.tolist(), times.tolist(), strict=True):
            unit = self.unit_of.get(int(self.class_of[label])) if label != NONE else None
            if unit is None:
                constant += number
            else:
                of_units[unit] += number
        per_axis: dict[int, list[int]] = defaultdict(list)
        for (axis, _), number in of_units.items():
            per_axis[axis].append(number)
        for axis, numbers in per_axis.items():
            if len(numbers) != self.axes[axis].units or len(set(numbers)) != 1:
                raise Uneven
        return Count(constant, {axis: numbers[0] for axis, numbers in per_axis.items()})


def axes_of(trace: Trace, left_out: Iterable[Place] = ()) -> Axes:
    """Return the axes that a trace has found.

    Args:
        trace: after its run.
        left_out: places of which none may change.
    """
    class_of = trace.labels.classes()
    frozen = _frozen_classes(trace, class_of, left_out)
    members = Members(trace.nodes, class_of)
    parts = _parts(trace, class_of)
    groups: dict[Any, list[int]] = {}
    for at, cls in enumerate(members.classes):
        if cls not in frozen:
            groups.setdefault((members.signature(at), parts.get(cls)), []).append(at)
    reduced = _classes(class_of, trace.reduced)
    attended = _classes(class_of, trace.attended)
    axes: list[Axis] = []
    unit_of: dict[int, tuple[int, int]] = {}
    for group in groups.values():
        if len(group) < 2 and members.classes[group[0]] not in parts:  # one of several parts
            continue
        classes = [members.classes[at] for at in group]
        statistic, attention = (not kind.isdisjoint(classes) for kind in (reduced, attended))
        axis = Axis(len(axes), len(group), members.positions(group), statistic, attention)
        unit_of |= {cls: (axis.number, unit) for unit, cls in enumerate(classes)}
        axes.append(axis)
    reasons: dict[Place, str] = {}
    for at, cls in enumerate(members.classes):
        if cls not in unit_of:
            why = frozen.get(cls, "all of its channels belong together")
            for place in members.places(at):
                reasons.setdefault(place, why)
    return Axes(axes, reasons, class_of, unit_of)


class Members:
    """Where the labels of each class stand.

    Args:
        nodes: labels of tensors' dimensions.
        class_of: by label.

    Attributes:
        classes: in the order in which they stand first.
    """

    def __init__(self, nodes: Mapping[Place, Tensor], class_of: NDArray[np.int64]) -> None:
        self._places = list(nodes)
        sizes = [len(labels) for labels in nodes.values()]
        labels = torch.cat([*nodes.values(), torch.empty(0, dtype=torch.long)]).numpy()
        distinct, first, which = np.unique(class_of[labels], return_index=True, return_inverse=True)
        rising = np.argsort(first)
        self.classes: list[int] = distinct[rising].tolist()
        rank = np.argsort(rising)[which]
        order = np.argsort(rank, kind="stable")  # by class, then by place and position
        rank, place = rank[order], np.repeat(np.arange(len(sizes)), sizes)[order]
        self._positions = np.concatenate([*map(np.arange, sizes), np.empty(0, np.int64)])[order]
        new = (np.diff(rank, prepend=-1) != 0) | (np.diff(place, prepend=-1) != 0)
        runs = np.flatnonzero(new)  # of one class in one place
        lengths = np.diff(runs, append=len(rank))
        self._runs = np.stack([place[runs], lengths], 1)
        ends = np.arange(len(self.classes) + 1)
        self._first_run = np.searchsorted(rank[runs], ends)
        self._first_position = np.searchsorted(rank, ends)

    def signature(self, at: int) -> bytes:
        """Return in which places a class stands, and how often: alike for units of one axis."""
        return self._runs[self._first_run[at] : self._first_run[at + 1]].tobytes()

    def places(self, at: int) -> list[Place]:
        """Return the places of a class, in the order of the pass."""
        runs = self._runs[self._first_run[at] : self._first_run[at + 1], 0]
        return [self._places[place] for place in runs.tolist()]

    def positions(self, group: Sequence[int]) -> dict[Place, Tensor]:
        """Return, by place, the positions of classes of one signature, shape (classes, width)."""
        starts, ends = self._first_position[group], self._first_position[group[0] + 1]
        rows = self._positions[starts[:, None] + np.arange(ends - starts[0])]
        _, lengths = self._runs[self._first_run[group[0]] : self._first_run[group[0] + 1]].T
        columns = torch.from_numpy(rows).split(lengths.tolist(), 1)
        return {
            place: part.contiguous()
            for place, part in zip(self.places(group[0]), columns, strict=True)
        }


def _parts(trace: Trace, class_of: NDArray[np.int64]) -> dict[int, tuple[Any, ...]]:
    """Return how often a class stands in each part of what was split into equal parts."""
    parts: dict[int, tuple[Any, ...]] = {}
    for number, rectangle in enumerate(trace.rectangles):
        classes = class_of[rectangle.labels.numpy()]
        if splits_units(classes):
            for cls in np.unique(classes).tolist():
                often = tuple((classes == cls).sum(1).tolist())
                parts[cls] = (*parts.get(cls, ()), (number, often))
    return parts


def splits_units(classes: NDArray[np.int64]) -> bool:
    """Return whether parts, shape (parts, size), neither go as a whole nor lose the same units."""
    whole = (classes == classes[:, :1]).all() or (classes == classes[:1]).all()
    return not whole


def _classes(class_of: NDArray[np.int64], several: Iterable[Tensor]) -> set[int]:
    labels = torch.cat([*several, torch.empty(0, dtype=torch.long)])
    return set(class_of[labels[labels != NONE].unique().numpy()].tolist())


def _frozen_classes(
    trace: Trace, class_of: NDArray[np.int64], left_out: Iterable[Place]
) -> dict[int, str]:
    reasons: dict[int, str] = {}
    asked = [(trace.nodes[at], "it was asked to stay") for at in left_out if at in trace.nodes]
    for labels, reason in (*trace.frozen, *asked):
        for cls in _classes(class_of, [labels]):
            reasons.setdefault(cls, reason)
    return reasons
