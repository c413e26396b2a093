"""Where there are too many changes to look at all: which are looked at, and what that costs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from raynas.algorithms.predictor import Predictor
from raynas.core.archspace import ArchSpace
from raynas.core.candidates import BEST, Candidates, ascents
from raynas.core.codes import Codes
from raynas.core.decision import Choice, Subset
from raynas.core.kernel_ridge import KernelRidge
from raynas.core.likeness import Likeness
from raynas.core.similarity import EqualDecisions
from raynas.core.trial import Trial

MIXED = ArchSpace(
    (
        Choice("op", ("conv", "skip"), {"conv": ArchSpace.of(kernel=[3, 5, 7])}),
        *(Choice(f"c{i:02}", (0, 1, 2)) for i in range(40)),
        Subset("from", ("a", "b", "c", "d"), 2),
        Subset("any", (0, 1, 2), None),
    )
)


def test_an_ask_in_a_deep_space_needs_no_dense_candidates() -> None:
    """All neighbours of eight centres, as vectors of ones, take 740 MiB; measured are 17."""
    space = ArchSpace.of(**{f"c{i:04}": range(3) for i in range(1000)})
    sampler, rng = Predictor(space, seed=0), np.random.default_rng(0)
    for _ in range(200):
        sampler.tell(Trial.completed(space.sample(rng), float(rng.random())))
    for _ in range(sampler.startup or 0):
        sampler.ask()
    tracemalloc.start()
    arch = sampler.ask()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    space.check(arch)
    assert sampler.origin.predicted is not None  # the model chose it
    assert peak < 100 * 2**20


@pytest.mark.parametrize("objectives", [1, 2])
def test_gains_are_those_of_the_bounds(objectives: int) -> None:
    """Of every single change, to the first order, with a point in flight and two objectives too."""
    codes, rng = Codes(MIXED), np.random.default_rng(0)
    rows = codes.uniform(60, rng)
    targets = rng.standard_normal((60, objectives))
    alike = Likeness(EqualDecisions(codes))
    ridge = KernelRidge(alike, rows, targets, codes.uniform(2, rng), noise=0.1)
    weights = np.full((1, objectives), 1 / objectives)
    gains = ridge.gains(rows[:1], weights)[0]
    edits = codes.edits(rows[0])
    each = np.arange(len(edits))
    changed = codes.edited(rows[0], edits, each, each, rng)
    around = Candidates(
        np.concatenate([rows[:1], changed]), np.zeros(len(changed) + 1, dtype=np.intp), rows[:1]
    )
    upper = ridge.bounds(around)[1] @ weights[0]
    told = np.array([gains[codes.places(row)].sum() - gains[codes.places(rows[0])].sum()
                     for row in changed])  # fmt: skip
    assert len(changed) == codes.changes.sum() - 2 * (rows[0][codes.columns["kernel"]][0] < 0)
    assert np.corrcoef(told, upper[1:] - upper[0])[0, 1] > 0.95


def test_the_best_changes_are_made_alone_and_together() -> None:
    codes, rng = Codes(MIXED), np.random.default_rng(0)
    row = codes.encode(MIXED.sample(rng, {"op": "conv", "from": ("a", "b"), "any": ()}))
    gains = np.round(rng.standard_normal(codes.values), 3)

    def worth(of: np.ndarray) -> float:
        return float(gains[codes.places(of)].sum() - gains[codes.places(row)].sum())

    made = ascents(codes, row, gains, rng)
    for changed in made:
        MIXED.check(codes.decode(changed))
    flat = [label for label in MIXED.labels if label not in ("op", "kernel")]
    spans = [codes.columns[label] for label in flat]
    changes = np.array([sum((of[span] != row[span]).any() for span in spans) for of in made])
    alone = made[:BEST]
    assert (changes[:BEST] <= 1).all()
    stays = alone[:, codes.columns["op"].start] == row[codes.columns["op"].start]
    values = [worth(of) for of in alone[stays]]
    assert values == pytest.approx(sorted(values, reverse=True))  # the best first
    ladder = made[BEST:]
    assert {2, 4, 8, 16} <= {*changes[BEST:].tolist()} | {*(changes[BEST:] + 1).tolist()}
    assert all(worth(of) > 0 for of in ladder[ladder[:, 0] == row[0]])
    best_of_two = max(worth(of) for of in ladder)
    assert best_of_two > max(values)
