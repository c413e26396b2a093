"""Axes that have to keep the same share of their units, for parts of a tensor stay equal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import gcd

import numpy as np
import torch
from torch import Tensor

from raynas.nn.conversion.axes import Axes, Count, Uneven, splits_units
from raynas.nn.conversion.labels import Parts
from raynas.nn.conversion.plan import ElasticAxis
from raynas.nn.conversion.trace import Trace
from raynas.nn.conversion.uneven_parts import UnevenParts


def linked(
    trace: Trace, axes: Axes, offered: Mapping[int, ElasticAxis]
) -> tuple[dict[int, ElasticAxis], list[ElasticAxis]]:
    """Return the axes, linked ones with one label, and those that cannot be linked.

    Where channels are split into equal parts, as a shuffle does, the parts must stay equal: axes
    of which they consist decide together.
    """
    leader = {number: number for number in offered}
    unequal: set[int] = set()
    split = [r for r in trace.rectangles if splits_units(axes.class_of[r.labels.numpy()])]
    for rectangle in split:
        for first, other in _unequal_rows(axes, rectangle.labels):
            pairs = _pairs(first, other, offered, leader)
            if pairs is None:
                unequal |= {*first.per_unit, *other.per_unit} & offered.keys()
            for a, b in pairs or ():
                low, high = sorted((_root(leader, a), _root(leader, b)))
                leader[high] = low
    kept: dict[int, ElasticAxis] = {}
    for together in _components(axes, offered, unequal, split):
        kept |= UnevenParts(axes, together, split).chosen()
    for number, axis in offered.items():
        if number in kept or len(axis.options) < 2:
            continue
        if unequal.isdisjoint(n for n in offered if _root(leader, n) == _root(leader, number)):
            kept[number] = replace(axis, label=offered[_root(leader, number)].label)
    kept = {number: kept[number] for number in offered if number in kept}
    return kept, [axis for number, axis in offered.items() if number not in kept]


def _components(
    axes: Axes, offered: Mapping[int, ElasticAxis], unequal: set[int], split: Iterable[Parts]
) -> Iterator[dict[int, ElasticAxis]]:
    """Yield the axes that parts hold together, where some of these would become unequal."""
    leader = {number: number for number in offered}
    for rectangle in split:
        classes = np.unique(axes.class_of[rectangle.labels.numpy()]).tolist()
        numbers = {axes.unit_of[c][0] for c in classes if c in axes.unit_of} & offered.keys()
        for number in numbers:
            low, high = sorted(_root(leader, n) for n in (number, min(numbers)))
            leader[high] = low
    for root in {_root(leader, number) for number in unequal}:
        yield {n: axis for n, axis in offered.items() if _root(leader, n) == root}


def _root(leader: Mapping[int, int], number: int) -> int:
    while leader[number] != number:
        number = leader[number]
    return number


def _unequal_rows(axes: Axes, matrix: Tensor) -> Iterator[tuple[Count, Count]]:
    """Yield pairs of rows that keep different numbers of their labels."""
    counts = []
    for row in matrix:
        try:
            counts.append(axes.count(*torch.unique(row, return_counts=True)))
        except Uneven:
            classes = axes.class_of[matrix.numpy()].flatten().tolist()
            numbers = {axes.unit_of[c][0] for c in classes if c in axes.unit_of}
            yield Count(0, dict.fromkeys(numbers, 1)), Count(1)
            return
    for other in counts[1:]:
        if other != counts[0]:
            yield counts[0], other


def _pairs(
    first: Count,
    other: Count,
    offered: Mapping[int, ElasticAxis],
    leader: Mapping[int, int],
) -> list[tuple[int, int]] | None:
    """Return which axes have to decide together; None if that does not help."""
    if first.constant != other.constant:
        return None

    def left(ours: Count, theirs: Count) -> list[int]:
        roots = {_root(leader, a) for a in theirs.per_unit if a in offered}
        numbers = [a for a in ours.per_unit if a in offered]
        return sorted(
            (a for a in numbers if _root(leader, a) not in roots),
            key=lambda a: (offered[a].units, ours.per_unit[a]),
        )

    a, b = left(first, other), left(other, first)
    alike = [
        (offered[x].units, first.per_unit[x]) == (offered[y].units, other.per_unit[y])
        for x, y in zip(a, b, strict=False)
    ]
    return list(zip(a, b, strict=True)) if len(a) == len(b) and all(alike) else None


def joined(
    axes: Mapping[int, ElasticAxis], good: Mapping[int, ElasticAxis]
) -> Iterator[dict[int, ElasticAxis]]:
    """Yield axes that could be cut if they kept the same share of their units, with one label.

    Heads whose number is also computed from the width that they read, as ``C // num_heads``, may
    lose heads where that loses as much; what one layer makes for others of its form, such as a
    bias of attention, fits where all of them have as many heads.

    Args:
        axes: all that were tried.
        good: those that need no others; read anew each time, for what is yielded may join it.
    """
    axes = {number: axis for number, axis in axes.items() if not axis.keeps}
    tried: set[frozenset[int]] = set()
    for number, axis in axes.items():
        if number in good or axis.kind != "heads":
            continue
        alike = {n for n, other in axes.items() if _form(other) == _form(axis)}
        for numbers in (alike, _neighbours(axes, alike), _neighbours(axes, {number})):
            key = frozenset(numbers)
            if number not in good and len(numbers) > 1 and key not in tried:
                tried.add(key)
                together = _one_decision({n: axes[n] for n in sorted(numbers)})
                if together:
                    yield together


def _form(axis: ElasticAxis) -> tuple[object, ...]:
    places = sorted((re.sub(r"\d+", "#", name), dim) for name, dim in axis.places)
    return (axis.kind, axis.units, *places)


def _neighbours(axes: Mapping[int, ElasticAxis], numbers: Iterable[int]) -> set[int]:
    """Return the axes and all that lie beside heads in a weight, heads beside those included."""
    found = set(numbers)
    by_tensor: dict[str, set[int]] = {}
    for number, axis in axes.items():
        for name, _ in axis.places:
            by_tensor.setdefault(name, set()).add(number)
    beside = [of for of in by_tensor.values() if any(axes[n].kind == "heads" for n in of)]
    while True:
        more = found.union(*(of for of in beside if not of.isdisjoint(found)))
        if more == found:
            return found
        found = more


def _one_decision(axes: Mapping[int, ElasticAxis]) -> dict[int, ElasticAxis]:
    """Return the axes with one label and the shares that each of them can keep; else nothing."""
    widest = max(axes.values(), key=lambda axis: (axis.kind != "heads", axis.options[0]))
    common = gcd(*(axis.units for axis in axes.values()))
    shares = {round(option * common / widest.options[0]) for option in widest.options} - {0}
    options = tuple(widest.options[0] * share // common for share in sorted(shares, reverse=True))
    if len(options) < 2 or widest.options[0] % common:
        return {}
    statistic = any(axis.statistic for axis in axes.values())
    return {
        n: replace(axis, label=widest.label, options=options, statistic=statistic)
        for n, axis in axes.items()
    }
