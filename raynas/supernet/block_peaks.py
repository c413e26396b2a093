"""Bounds on what blocks do not add up to, such as a peak of memory, kept by cutting off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product

import numpy as np

from raynas.core.blocks import Blocks, Pick
from raynas.core.constraints import Constraint
from raynas.core.feasible import Cheap

CHECKED = 64  # random replacements that must not make it harder to keep a bound
CONTEXTS = 4  # random combinations in which variants are compared
PASSES = 3
LISTED = 4096  # combinations of the blocks that break a bound together, at most
KEPT = 100_000

Cut = tuple[tuple[int, tuple[int, ...]], ...]  # not all: of each block, one of these variants


def cut_of(pick: Pick) -> Cut:
    """Return what no other combination than this one meets."""
    return tuple((at, (number,)) for at, number in enumerate(pick))


class PeakBound:
    """A bound on a metric that each block raises, or lowers, alone, whatever the others are.

    A combination that breaks it does so by a few of its blocks: with all others at what keeps the
    bound most easily it is broken still. Whatever else breaks it by these blocks is cut off with it
    (combinatorial Benders' cuts, Codato & Fischetti, 2006).

    Args:
        blocks: of the space.
        costs: of an architecture, by metric.
        constraint: on one of these, with one end.

    Attributes:
        constraint: as given.
        cuts: that are known so far.
        easiest: the combination that keeps it most easily.
        monotone: whether in random combinations no block made it harder by its variant of
            ``easiest``; else this bound cannot be kept so.
    """

    def __init__(self, blocks: Blocks, costs: Cheap, constraint: Constraint) -> None:
        self.constraint, self._blocks = constraint, blocks
        self._sign = -1.0 if constraint.high is None else 1.0
        self.cuts: list[Cut] = []

        @lru_cache(KEPT)
        def value(pick: Pick) -> float:
            return float(costs(blocks.arch(pick))[constraint.metric])

        self.value = value
        rng = np.random.default_rng(0)
        self.easiest = self._easiest([blocks.drawn(rng) for _ in range(CONTEXTS)])
        self.monotone = all(self._eased(rng) for _ in range(CHECKED))

    def broken(self, pick: Pick) -> bool:
        """Return whether a combination breaks it."""
        return not self.constraint.allows(self.value(pick))

    def cut(self, pick: Pick) -> bool:
        """Return whether a combination breaks it; if so, cut it off with what does so likewise."""
        if not self.broken(pick):
            return False
        guilty = list(range(len(pick)))
        for at in range(len(pick)):
            others = [other for other in guilty if other != at]
            if self.broken(self._eased_but(others, pick)):
                guilty = others
        self.cuts += self._likewise(guilty, pick)
        return True

    def _likewise(self, guilty: Sequence[int], pick: Pick) -> Iterator[Cut]:
        """Yield all combinations of a few blocks that break the bound whatever the others are."""
        sizes = self._blocks.sizes
        if math.prod(sizes[at] for at in guilty) > LISTED:
            yield tuple((at, (pick[at],)) for at in guilty)
            return
        *first, last = sorted(guilty, key=lambda at: sizes[at])
        for numbers in product(*(range(sizes[at]) for at in first)):
            taken = list(self.easiest)
            for at, number in zip(first, numbers, strict=True):
                taken[at] = number
            every = [(*taken[:last], n, *taken[last + 1 :]) for n in range(sizes[last])]
            breaking = tuple(n for n, one in enumerate(every) if self.broken(one))
            if breaking:
                alone = ((at, (n,)) for at, n in zip(first, numbers, strict=True))
                yield (*alone, (last, breaking))

    def _eased_but(self, kept: Sequence[int], pick: Pick) -> Pick:
        return tuple(pick[at] if at in kept else n for at, n in enumerate(self.easiest))

    def _easiest(self, contexts: Sequence[Pick]) -> Pick:
        """Descend block by block; where the metric does not change, random contexts decide."""
        blocks = self._blocks

        def height(pick: Pick, at: int, number: int) -> tuple[float, float]:
            own, *others = (
                self._sign * self.value((*one[:at], number, *one[at + 1 :]))
                for one in (pick, *contexts)
            )
            return own, sum(others)

        pick = blocks.corner if self._sign > 0 else blocks.zero
        for _ in range(PASSES):
            before = pick
            for at, size in enumerate(blocks.sizes):
                order = [pick[at], *(n for n in range(size) if n != pick[at])]
                number = min(order, key=lambda n, at=at: height(pick, at, n))  # type: ignore[misc]
                pick = (*pick[:at], number, *pick[at + 1 :])
            if pick == before:
                break
        return pick

    def _eased(self, rng: np.random.Generator) -> bool:
        pick, at = self._blocks.drawn(rng), int(rng.integers(len(self._blocks.sizes)))
        other = (*pick[:at], self.easiest[at], *pick[at + 1 :])
        return self._sign * self.value(other) <= self._sign * self.value(pick)
