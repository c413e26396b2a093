"""Paths of which every candidate of every choice takes its exact share.

Chu, Zhang and Xu, 2021, arXiv:1907.01845 (FairNAS), algorithm 1: a step takes as many paths as a
choice has candidates, and of every choice a random permutation says which path takes which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidSpace

FAIR = 11  # last word of the seeds, so that none is another one with zeros behind


class FairPaths:
    """The endless series of paths in which all values of a decision keep step with each other.

    A decision's values come in blocks, one random permutation of the candidates after the other: at
    any time two candidates were taken equally often or once more, and equally often whenever a
    block ends. Of several inputs a block takes each equally often (windows of a permutation); where
    any number may be taken, it is two values, a random set and what that leaves out. A decision
    that an option opens has blocks of its own, over the paths that take the option; so is the
    series a function of the seed and the position, and no count has to be kept.

    Differs: the paper's choices have equally many candidates; where they do not, a step takes as
    many paths as the largest has, and blocks of the smaller ones run across steps.

    Args:
        space: of the paths.
        seed: fixes the permutations.

    Attributes:
        per_step: how many paths make a step: the largest number of candidates of a decision that
            every path takes.

    Raises:
        InvalidSpace: a decision stands under two others, or under two inputs that may be taken
            together: how often it is taken is then left to chance.
    """

    def __init__(self, space: ArchSpace, seed: int) -> None:
        self._space, self._seed = space, seed
        roots = {decision.label for decision in space.choices}
        self.per_step = max((_block_size(d) for d in space.choices), default=1)
        self._number = {label: at for at, label in enumerate(space.labels)}
        self._above: dict[str, tuple[Decision, frozenset[Atom]]] = {}
        for decision in space.decisions.values():
            for label, options in _opened(decision).items():
                if label not in roots:
                    self._place(label, decision, options)

    def _place(self, label: str, decision: Decision, options: frozenset[Atom]) -> None:
        if isinstance(decision, Subset) and len(options) > 1:
            raise InvalidSpace(
                f"strict fairness needs every decision below one input: {label!r} stands below "
                f"several of {decision.label!r}"
            )
        first, _ = self._above.setdefault(label, (decision, options))
        if first.label != decision.label:
            raise InvalidSpace(
                f"strict fairness needs every decision below one other: {label!r} stands below "
                f"{first.label!r} and {decision.label!r}"
            )

    def path(self, position: int) -> Arch:
        """Return one path of the series, by its number from 0."""
        return self._space.decided(lambda decision: self._value(decision, position))

    def _value(self, decision: Decision, position: int) -> Value:
        block, at = divmod(self._turn(decision.label, position), _block_size(decision))
        return self._block(decision, block)[at]

    def _turn(self, label: str, position: int) -> int:
        """Return how many of the paths before this one took the decision."""
        if label not in self._above:
            return position
        above, options = self._above[label]
        block, at = divmod(self._turn(above.label, position), _block_size(above))
        values = self._block(above, block)
        if isinstance(above, Subset):
            opens = [not options.isdisjoint(_atoms(value)) for value in values]
        else:
            opens = [value in options for value in values]
        return block * sum(opens) + sum(opens[:at])

    def _block(self, decision: Decision, block: int) -> list[Value]:
        rng = np.random.default_rng([self._seed, self._number[decision.label], block, FAIR])
        count = len(decision.options)
        if isinstance(decision, Choice):
            return [decision.options[i] for i in rng.permutation(count).tolist()]
        if decision.k is None:
            kept = np.flatnonzero(rng.integers(2, size=count)).tolist()
            return [_picked(decision, kept), _picked(decision, {*range(count)}.difference(kept))]
        order = np.tile(rng.permutation(count), 2).tolist()
        return [_picked(decision, order[at : at + decision.k]) for at in range(max(count, 1))]


def _picked(decision: Subset, places: Sequence[int] | set[int]) -> Value:
    return tuple(decision.options[i] for i in sorted(places))


def _block_size(decision: Decision) -> int:
    if isinstance(decision, Subset) and decision.k is None:
        return 2
    return len(decision.options)


def _opened(decision: Decision) -> dict[str, frozenset[Atom]]:
    """Return the labels right below a decision, with the options that open them."""
    below: dict[str, frozenset[Atom]] = {}
    for option, space in decision.opens.items():
        for inner in space.choices:
            below[inner.label] = below.get(inner.label, frozenset()) | {option}
    return below


def _atoms(value: Value) -> tuple[Atom, ...]:
    return value if isinstance(value, tuple) else (value,)
