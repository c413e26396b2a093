"""The axes along which a model may become smaller, read from what a trace has seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
    reasons_by_class = _frozen_classes(trace, class_of, left_out)
    members: dict[int, dict[Place, list[int]]] = {}
    for place, labels in trace.nodes.items():
        for position, cls in enumerate(class_of[labels.numpy()].tolist()):
            members.setdefault(cls, {}).setdefault(place, []).append(position)
    groups: dict[Any, list[int]] = {}
    parts = _parts(trace, class_of)
    for cls, places in members.items():
        if cls not in reasons_by_class:
            signature = tuple((place, len(at)) for place, at in places.items())
            groups.setdefault((signature, parts.get(cls)), []).append(cls)
    reduced = _classes(class_of, trace.reduced)
    attended = _classes(class_of, trace.attended)
    axes: list[Axis] = []
    unit_of: dict[int, tuple[int, int]] = {}
    for (signature, _), classes in groups.items():
        if len(classes) < 2:
            continue
        positions = {
            place: torch.tensor([members[cls][place] for cls in classes]) for place, _ in signature
        }
        statistic, attention = (not kind.isdisjoint(classes) for kind in (reduced, attended))
        axis = Axis(len(axes), len(classes), positions, statistic, attention)
        unit_of |= {cls: (axis.number, unit) for unit, cls in enumerate(classes)}
        axes.append(axis)
    reasons = _reasons(members, reasons_by_class, unit_of)
    return Axes(axes, reasons, class_of, unit_of)


def _parts(trace: Trace, class_of: NDArray[np.int64]) -> dict[int, tuple[Any, ...]]:
    """Return how often a class stands in each part of what was split into equal parts."""
    parts: dict[int, tuple[Any, ...]] = {}
    for number, matrix in enumerate(trace.rectangles):
        classes = class_of[matrix.numpy()]
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
    labels = {label for tensor in several for label in tensor.tolist() if label != NONE}
    return {int(class_of[label]) for label in labels}


def _frozen_classes(
    trace: Trace, class_of: NDArray[np.int64], left_out: Iterable[Place]
) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for labels, reason in trace.frozen:
        for label in labels.tolist():
            if label != NONE:
                reasons.setdefault(int(class_of[label]), reason)
    for place in left_out:
        for label in trace.nodes[place].tolist() if place in trace.nodes else ():
            reasons.setdefault(int(class_of[label]), "it was asked to stay")
    return reasons


def _reasons(
    members: Mapping[int, Mapping[Place, list[int]]],
    frozen: Mapping[int, str],
    unit_of: Mapping[int, Any],
) -> dict[Place, str]:
    reasons: dict[Place, str] = {}
    for cls, places in members.items():
        if cls in unit_of:
            continue
        for place, positions in places.items():
            alone = "all of its channels belong together"
            if cls in frozen or len(positions) > 1:
                reasons.setdefault(place, frozen.get(cls, alone))
            elif place not in reasons:
                reasons[place] = alone
    return reasons
