"""A library of block variants: what each costs and scores beside the parent, and what sums tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from raynas.core.arch import Arch, Value
from raynas.core.blocks import Blocks, Pick
from raynas.core.constraints import Constraint
from raynas.core.metrics import INFLUENCE
from raynas.supernet.block_amounts import Amounts, Numbers
from raynas.supernet.block_bounds import BlockBounds
from raynas.supernet.block_program import BlockProgram

Score = Callable[[Mapping[str, float]], float | None]


@dataclass(frozen=True)
class Solution:
    """An architecture that is best by the sum of its blocks' scores.

    Attributes:
        arch: it.
        gain: sum of the differences of its blocks' scores to the parent's.
    """

    arch: Arch
    gain: float


class BlockScores:
    """What is known of a library's variants.

    Args:
        blocks: of the space.
        score: of an evaluation, to be maximised; None without one.
        influence: whether variants that leave layers out are ordered by the influence of these, in
            place of their scores.
    """

    def __init__(
        self,
        blocks: Blocks,
        score: Score,
        *,
        influence: bool = False,
    ) -> None:
        self.blocks, self._score, self._influence = blocks, score, influence
        self._known: dict[Pick, Mapping[str, float] | None] = {}
        self.version = 0

    def add(self, arch: Mapping[str, Value], metrics: Mapping[str, float] | None) -> None:
        """Keep what the parent, or a variant in it, was measured as; None failed; others pass."""
        pick = self.blocks.pick(arch)
        if pick is not None and np.count_nonzero(pick) < 2:
            self._known[pick] = metrics
            self.version += 1

    def __contains__(self, pick: Pick) -> bool:
        return pick in self._known

    @property
    def ready(self) -> bool:
        """Whether the parent's score is known."""
        return self.whole() is not None

    def whole(self, score: Score | None = None) -> float | None:
        """Return the parent's score, or another one of it; None if it is not known."""
        metrics = self._known.get(self.blocks.zero)
        return None if metrics is None else (score or self._score)(metrics)

    def gains(self, score: Score | None = None) -> list[Numbers]:
        """Return for each block the differences of its variants' scores to the parent's.

        Args:
            score: another one than the library's own.
        """
        reading = score or self._score
        found = [np.full(len(block.variants), np.nan) for block in self.blocks.blocks]
        for gains in found:
            gains[0] = 0.0
        for pick in self.blocks.singles():
            at = next(i for i, number in enumerate(pick) if number)
            gain = self._gain(pick, reading)
            found[at][pick[at]] = np.nan if gain is None else gain
        if self._influence and score is None:
            self._order_by_influence(found)
        return found

    def _gain(self, pick: Pick, score: Score) -> float | None:
        metrics, whole = self._known.get(pick), self._known.get(self.blocks.zero)
        if metrics is None or whole is None:
            return None
        value, base = score(metrics), score(whole)
        if value is None or base is None or not math.isfinite(value - base):
            return None
        return value - base

    def _order_by_influence(self, gains: list[Numbers]) -> None:
        """Share what is lost by leaving out layers, one by one, by their influence."""
        influence: dict[tuple[int, int], float] = {}
        for pick in self.blocks.singles():
            metrics = self._known.get(pick)
            if metrics is not None and metrics.get(INFLUENCE, 0.0) > 0.0:
                at = next(i for i, number in enumerate(pick) if number)
                influence[at, pick[at]] = metrics[INFLUENCE]
        total = sum(influence.values())
        lost = sum(abs(gains[at][number]) for at, number in influence)
        if not math.isfinite(lost):
            return
        for (at, number), own in influence.items():
            gains[at][number] = -own / total * lost

    def measured(self, constraint: Constraint) -> Amounts | None:
        """Return what variants add of a metric that only evaluations tell; None before there are.

        Args:
            constraint: on the metric.
        """

        def value(metrics: Mapping[str, float]) -> float | None:
            return metrics.get(constraint.metric)

        whole = self.whole(value)
        if whole is None:
            return None
        # what failed is never picked, whatever it adds
        return Amounts(constraint, whole, tuple(map(np.nan_to_num, self.gains(value))))

    def predicted(
        self,
        arch: Mapping[str, Value],
        score: Score | None = None,
    ) -> float | None:
        """Return the sum of differences for an architecture; None where one is not known."""
        pick = self.blocks.pick(arch)
        if pick is None or not self.ready:
            return None
        total = sum(gains[n] for gains, n in zip(self.gains(score), pick, strict=True))
        return float(total) if math.isfinite(total) else None

    def solutions(self, bounds: BlockBounds) -> Iterator[Solution]:
        """Yield architectures within bounds, those of the largest sums first."""
        gains, cuts = self.gains(), list[Pick]()
        program = BlockProgram(gains, bounds.amounts, bounds.peaks)
        while (pick := program.best(cuts)) is not None:
            cuts.append(pick)
            arch = self.blocks.arch(pick)
            if bounds.keeps(arch):
                yield Solution(arch, float(sum(g[n] for g, n in zip(gains, pick, strict=True))))
