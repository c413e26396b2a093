"""Points that a search begins with, before anything is known.

Shapes: N points, K columns, P peaks.
"""

from __future__ import annotations

import numpy as np

from raynas.core.codes import Rows
from raynas.core.decision import Choice
from raynas.core.similarity import EqualDecisions

LEAST = 10  # points
TRIED = 30  # designs that the one far from peaks is picked from


class Designs:
    """Designs in which the options of every choice occur equally often, up to one.

    Args:
        equal: says how far points are apart.
        rng: draws.

    Attributes:
        size: points of a design: twice as many as the longest decision has options, and at least
            ten.
    """

    def __init__(self, equal: EqualDecisions, rng: np.random.Generator) -> None:
        self._equal, self._codes, self._rng = equal, equal.codes, rng
        decisions = self._codes.space.decisions.values()
        self.size = max([LEAST, *(2 * len(decision.options) for decision in decisions)])

    def draw(self) -> list[Rows]:
        """Return a design."""
        codes, count = self._codes, self.size
        rows = codes.genotypes(count, self._rng)
        for label, decision in codes.space.decisions.items():
            if isinstance(decision, Choice):
                size = len(decision.options)
                rounds = [self._rng.permutation(size) for _ in range(-(-count // size))]
                rows[:, codes.columns[label].start] = np.concatenate(rounds)[:count]
        return list(codes.settle(rows))

    def far_from(self, peaks: list[Rows]) -> list[Rows]:
        """Return the design whose nearest half lies furthest from all peaks."""
        if not peaks:
            return self.draw()
        designs = [self.draw() for _ in range(TRIED)]
        away = [self._distance_of_nearest_half(design, peaks) for design in designs]
        return designs[int(np.argmax(away))]

    def _distance_of_nearest_half(self, design: list[Rows], peaks: list[Rows]) -> float:
        equal_NP = self._equal.between(np.array(design), np.array(peaks))
        nearest = np.sort((1 - equal_NP).min(1))
        return round(float(nearest[: len(nearest) // 2].mean()), 9)
