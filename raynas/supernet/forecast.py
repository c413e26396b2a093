"""What accuracy predictors expect, and of which architectures they expect most.

The evolution is Once-for-All's, on the predictor alone (Cai et al., 2020, arXiv:1908.09791, and
their code). Shapes: N points, C candidates, M objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core.archspace import ArchSpace
from raynas.core.codes import Codes, Rows
from raynas.core.feasible import repaired
from raynas.core.objectives import pareto_mask
from raynas.supernet.accuracy_predictor import AccuracyPredictor, HeldOut

Matrix = NDArray[np.float64]

GENERATIONS = 15
PARENTS = 16  # a quarter of the population, as the authors'
CHILDREN = 64  # in a generation: half mutants, half crossovers
POOL = 64


@dataclass(frozen=True)
class Forecast:
    """Predictors fitted to points, one per objective.

    Attributes:
        predictors: one per objective.
        pool: architectures within the bounds that they expect most of, the best first.
        count: points that there were.
    """

    predictors: tuple[AccuracyPredictor, ...]
    pool: Rows
    count: int

    def mean(self, rows: Rows) -> Matrix:
        """Return what is expected, shape (N, M)."""
        return np.stack([one.predict_rows(rows) for one in self.predictors], axis=1)

    @property
    def reports(self) -> list[HeldOut]:
        """How well each predictor does on what it was not fitted to."""
        return [one.report for one in self.predictors if one.report is not None]

    @property
    def deviation(self) -> NDArray[np.float64]:
        """The predictors' errors on what they were not fitted to, shape (M,)."""
        return np.array([report.deviation for report in self.reports])


def forecast(
    space: ArchSpace, codes: Codes, rows: Rows, targets_NM: Matrix, starts: Rows, *, seed: int
) -> Forecast:
    """Fit predictors, and evolve what they expect most of; the same whenever it is called.

    Args:
        space: with its bounds.
        codes: of the space.
        rows: architectures.
        targets_NM: what they scored.
        starts: some that the evolution begins with, whether or not they keep the bounds.
        seed: fixes it.
    """
    predictors = tuple(AccuracyPredictor(space, seed=seed) for _ in targets_NM.T)
    for predictor, target_N in zip(predictors, targets_NM.T, strict=True):
        predictor.fit_rows(rows, target_N)
    fitted = Forecast(predictors, rows[:0], len(rows))
    rng = np.random.default_rng([seed, len(rows)])
    return Forecast(predictors, evolved(space, codes, fitted.mean, starts, rng), len(rows))


def evolved(
    space: ArchSpace,
    codes: Codes,
    value: Callable[[Rows], Matrix],
    starts: Rows,
    rng: np.random.Generator,
) -> Rows:
    """Return architectures within the bounds of which a function says most, the best first.

    With several objectives, those that no other beats come first, then by the sum.

    Differs: 15 generations (the authors' have 500), the best of all of them stay, and each is kept
    once; what begins beyond the bounds is repaired, where theirs is drawn until it keeps them.

    Args:
        space: with its bounds.
        codes: of the space.
        value: from rows to all objectives, shape (N, M), to be maximised.
        starts: some that it begins with; as many random ones join them.
        rng: draws.
    """
    first = np.concatenate([starts, codes.uniform(PARENTS, rng)])
    inside = [repaired(space, codes.decode(row), rng) for row in first]
    rows = np.array([codes.encode(arch) for arch in inside if arch is not None], dtype=np.int32)
    rows = rows.reshape(len(rows), len(codes.sizes))
    for _ in range(GENERATIONS if len(rows) else 0):
        parents = rows[:PARENTS]
        picked = parents[rng.integers(len(parents), size=(3, CHILDREN // 2))]
        mutants = codes.mutate(picked[0], rng)
        twice = rng.random(len(mutants)) < 0.5
        mutants[twice] = codes.mutate(mutants[twice], rng)
        children = np.concatenate([mutants, codes.cross(picked[1], picked[2], rng)])
        together = np.concatenate([rows, _new_within(space, codes, children, rows)])
        rows = together[_best_first(value(together))][:POOL]
    return rows


def _new_within(space: ArchSpace, codes: Codes, rows: Rows, known: Rows) -> Rows:
    """Return the rows within the bounds, each once, that are not known."""
    seen, kept = set(codes.keys(known)), []
    for at, key in enumerate(codes.keys(rows)):
        if key not in seen:
            seen.add(key)
            if space.violation is None or space.violation(codes.decode(rows[at])) == 0.0:
                kept.append(at)
    return rows[kept]


def _best_first(values_NM: Matrix) -> NDArray[np.intp]:
    if values_NM.shape[1] == 1:
        return np.argsort(-values_NM[:, 0], kind="stable")
    return np.lexsort((-values_NM.sum(1), ~pareto_mask(values_NM)))
