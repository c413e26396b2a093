"""Least and most that the architectures of a space cost, exactly where costs are sums of parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision, Subset
from raynas.core.errors import InvalidSpace
from raynas.core.objectives import Goal
from raynas.costs.cost_table import Additive
from raynas.costs.expectation import Term
from raynas.costs.parts import Factor

STATES = 50_000
STARTS = 4
STEPS = 40
PEAKS = "activation_bytes"


@dataclass(frozen=True)
class CostBound:
    """An architecture with the least or most of a metric.

    Attributes:
        value: of the metric.
        arch: that has it.
        exact: whether no architecture has less (more); else it is the best that was found.
    """

    value: float
    arch: Arch
    exact: bool


def cost_bound(space: ArchSpace, table: Additive, metric: str, goal: Goal = "min") -> CostBound:
    """Return the architecture with the least (``min``) or most (``max``) of a metric.

    Decisions that share no term are taken on their own, and what an option opens is taken once for
    the option: dynamic programming over the tree of decisions. Where the metric is no sum (nor, as
    ``activation_bytes``, a largest part), or its terms tie more than 50,000 combinations together,
    the answer is that of a local search and may be beaten.

    Args:
        space: of the architectures.
        table: of their costs.
        metric: one of the table's.
        goal: which end.
    """
    if table.extremes is not None:
        arch = table.extremes[goal]
        return CostBound(table.cost(arch).as_metrics()[metric], arch, True)
    terms = table.terms(metric)
    if terms is not None:
        try:
            _, taken = _Best(goal, largest=metric == PEAKS).solve(space.choices, _pairs(terms), {})
        except _TooMany:
            pass
        else:
            arch = Arch({label: taken[label] for label in space.reached(taken)})
            return CostBound(table.cost(arch).as_metrics()[metric], arch, True)
    return _searched(space, lambda arch: table.cost(arch).as_metrics()[metric], goal)


class _TooMany(Exception):
    """More combinations than are tried."""


Pairs = list[tuple[tuple[Factor, ...], float]]  # conditions still open, and the amount
Taken = dict[str, Value]


def _pairs(terms: Iterable[Term]) -> Pairs:
    return [(term.path, term.amount) for term in terms if term.amount]


class _Best:
    """Solves a set of pending decisions by splitting it where no term and no label ties it."""

    def __init__(self, goal: Goal, largest: bool) -> None:
        self._better: Callable[[float, float], bool] = operator.lt if goal == "min" else operator.gt
        self._combined: Callable[[float, float], float] = max if largest else operator.add
        self._left = STATES
        self._under: dict[int, frozenset[str]] = {}
        self._alive: list[Decision] = []  # ids of the keys above stay theirs

    def solve(self, pending: Sequence[Decision], terms: Pairs, taken: Taken) -> tuple[float, Taken]:
        """Return the best total, and the values that the pending decisions then take."""
        total, best = 0.0, dict[str, Value]()
        for path, amount in terms:
            if not path:
                total = self._combined(total, amount)
        for group, own in self._groups(pending, terms, taken):
            value, values = self._together(group, own, taken)
            total, best = self._combined(total, value), best | values
        return total, best

    def _together(self, group: list[Decision], terms: Pairs, taken: Taken) -> tuple[float, Taken]:
        if not terms:
            return 0.0, _filled(group, taken)
        counts = [sum(any(f.label == d.label for f in path) for path, _ in terms) for d in group]
        decision = group[int(np.argmax(counts))]  # what most terms hang on unties most
        rest = [other for other in group if other is not decision]
        best: tuple[float, Taken] | None = None
        for value in decision.values():
            self._left -= 1
            if self._left < 0:
                raise _TooMany
            opened = [d for space in decision.opened(value) for d in space.choices]
            total, values = self.solve(
                [*rest, *opened],
                _given(terms, decision.label, value),
                {**taken, decision.label: value},
            )
            if best is None or self._better(total, best[0]):
                best = total, {decision.label: value, **values}
        assert best is not None  # every decision has a value
        return best

    def _groups(
        self, pending: Sequence[Decision], terms: Pairs, taken: Taken
    ) -> list[tuple[list[Decision], Pairs]]:
        """Split the decisions so that neither a label nor a term stands in two groups."""
        own = {d.label: d for d in pending if d.label not in taken}
        home = {label: label for label in own}

        def root(label: str) -> str:
            while home[label] != label:
                label = home[label]
            return label

        first: dict[str, str] = {}  # from any label below to the decision above that came first
        for label, decision in own.items():
            for inner in self._labels(decision):
                home[root(label)] = root(first.setdefault(inner, label))
        open_ = [(path, amount) for path, amount in terms if path]
        due = [pair for pair in open_ if all(f.label in first for f in pair[0])]  # else unreached
        for path, _ in due:
            for factor in path[1:]:
                home[root(first[factor.label])] = root(first[path[0].label])
        groups: dict[str, tuple[list[Decision], Pairs]] = {}
        for label, decision in own.items():
            groups.setdefault(root(label), ([], []))[0].append(decision)
        for pair in due:
            groups[root(first[pair[0][0].label])][1].append(pair)
        return list(groups.values())

    def _labels(self, decision: Decision) -> frozenset[str]:
        """Return the labels of the decision and of all below it."""
        if id(decision) not in self._under:
            inner = (d for space in decision.opens.values() for d in space.choices)
            below = frozenset[str]().union(*map(self._labels, inner))
            self._under[id(decision)] = below | {decision.label}
            self._alive.append(decision)
        return self._under[id(decision)]


def _given(terms: Pairs, label: str, value: Value) -> Pairs:
    """Return the terms that a decision leaves possible, without the conditions that it fulfils."""
    kept = []
    for path, amount in terms:
        mine = [factor for factor in path if factor.label == label]
        if all(factor.holds(value) for factor in mine):
            rest = tuple(f for f in path if f.label != label) if mine else path
            kept.append((rest, amount))
    return kept


def _searched(space: ArchSpace, value: Callable[[Arch], float], goal: Goal) -> CostBound:
    """Climb from the ends of all options and from random architectures."""
    rng, sign = np.random.default_rng(0), 1 if goal == "min" else -1
    starts = [_end(space, last=False), _end(space, last=True)]
    starts += [space.sample(rng) for _ in range(STARTS)]
    best_value, best = min(((sign * value(arch), arch) for arch in starts), key=lambda p: p[0])
    for _ in range(STEPS):
        try:
            other = space.mutate(best, rng)
        except InvalidSpace:  # there is only one
            break
        if (cost := sign * value(other)) < best_value:
            best_value, best = cost, other
    return CostBound(sign * best_value, best, False)


def _end(space: ArchSpace, *, last: bool) -> Arch:
    """Return the architecture of all first, or all last, options, numbers by size."""
    taken = _filled(space.choices, {}, last=last)
    return Arch({label: taken[label] for label in space.reached(taken)})


def _filled(pending: Sequence[Decision], taken: Taken, *, last: bool = False) -> Taken:
    """Return a value for every pending decision, and for those that it opens."""
    filled: Taken = {}
    waiting = [decision for decision in pending if decision.label not in taken]
    while waiting:
        decision = waiting.pop(0)
        if decision.label not in filled and decision.label not in taken:
            value = filled[decision.label] = _end_of(decision, last)
            waiting += [d for opened in decision.opened(value) for d in opened.choices]
    return filled


def _end_of(decision: Decision, last: bool) -> Value:
    if isinstance(decision, Subset):
        least, most = (0, len(decision.options)) if decision.k is None else (decision.k,) * 2
        return decision.options[: most if last else least]
    options = list(decision.options)
    if all(isinstance(option, int | float) for option in options):
        options.sort()
    return options[-1 if last else 0]
