"""All ways to take a tree of decisions, and how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from raynas.core.arch import Value
from raynas.core.decision import Decision

Order: TypeAlias = tuple[Decision, ...]
Chain: TypeAlias = "tuple[Decision, Chain] | None"


def _chained(decisions: Order, rest: Chain) -> Chain:
    """Return the decisions before what else is pending, as a linked list."""
    for decision in reversed(decisions):
        rest = decision, rest
    return rest


def _opened(decision: Decision, value: Value, rest: Chain) -> Chain:
    """Return what is still to be decided once ``decision`` has taken ``value``."""
    for space in reversed(decision.opened(value)):
        rest = _chained(space.choices, rest)
    return rest


def all_ways(decisions: Order) -> Iterator[dict[str, Value]]:
    """Yield every way to decide; with a stack of its own, for a thousand decisions are too deep."""
    taken: dict[str, Value] = {}
    stack: list[tuple[Decision, Iterator[Value], Chain]] = []
    pending = _chained(decisions, None)
    while True:
        while pending is not None:
            decision, rest = pending
            if decision.label not in taken:
                values = decision.values()
                taken[decision.label] = next(values)
                stack.append((decision, values, rest))
            pending = _opened(decision, taken[decision.label], rest)
        yield dict(taken)
        while stack:
            decision, values, rest = stack[-1]
            del taken[decision.label]
            try:
                value = next(values)
            except StopIteration:
                stack.pop()
                continue
            taken[decision.label] = value
            pending = _opened(decision, value, rest)
            break
        else:
            return


def size_of(decisions: Order) -> int:
    """Return the number of ways to decide, exact also where labels are shared."""
    return _Counter().count(decisions)


def _pending(decision: Decision, value: Value, rest: Order) -> Order:
    """Return what is still to be decided once ``decision`` has taken ``value``."""
    opened = decision.opened(value)
    return tuple(d for space in opened for d in space.choices) + rest if opened else rest


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
        groups: dict[int, tuple[list[Decision], frozenset[str]]] = {}
        group_of: dict[str, int] = {}
        for number, decision in enumerate(pending):
            members, under = [decision], self._labels(decision)
            for other in sorted({group_of[label] for label in under if label in group_of}):
                group, labels = groups.pop(other)
                members, under = [*group, *members], under | labels
            groups[number] = members, under
            group_of |= dict.fromkeys(under, number)
        return [members for members, _ in groups.values()]

    def _labels(self, decision: Decision) -> frozenset[str]:
        """Return the labels of the decision and of all below it."""
        if decision.label not in self._under:
            inner = (d for space in decision.opens.values() for d in space.choices)
            below = frozenset[str]().union(*map(self._labels, inner))
            self._under[decision.label] = below | {decision.label}
        return self._under[decision.label]
