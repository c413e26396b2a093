"""Shares of equal decisions, counted from what was changed or from all: bit for bit the same."""

from __future__ import annotations

import numpy as np
import pytest

from raynas.core.archspace import ArchSpace
from raynas.core.candidates import NEIGHBOURS, Candidates, candidates
from raynas.core.codes import Codes, Rows
from raynas.core.kernel_ridge import KernelRidge
from raynas.core.likeness import Likeness
from raynas.core.similarity import EqualDecisions
from tests.test_codes import nested
from tests.test_sampler_contract import SPACES

WIDE = ArchSpace.of(a=range(40), b=range(60), c=range(2))  # by columns, not by vectors of ones
DEEP = ArchSpace.of(**{f"c{i:03}": range(3) for i in range(300)})
CASES = {**SPACES, "nested": nested(), "wide": WIDE, "deep": DEEP, "empty": ArchSpace()}
every_space = pytest.mark.parametrize("space", CASES.values(), ids=list(CASES))


def made(codes: Codes, rng: np.random.Generator, seen: set[bytes]) -> Candidates:
    return candidates(codes, codes.uniform(4, rng), rng, seen=seen)


@every_space
def test_they_are_the_products_of_features(space: ArchSpace) -> None:
    codes, rng = Codes(space), np.random.default_rng(0)
    first, second = codes.uniform(20, rng), codes.uniform(30, rng)
    products = codes.features(first) @ codes.features(second).T
    assert EqualDecisions(codes).between(first, second) == pytest.approx(products, abs=1e-12)


def test_numbers_in_order_are_near() -> None:
    """Half for being equal, half by the distance of places; of four numbers the ends are 0 near."""
    space = ArchSpace.of(
        width=(8, 16, 32, 64),
        falling=(0.3, 0.2, 0.1),
        few=(1, 2),
        mixed=(3, 1, 2),
        text=("a", "b", "c"),
    )
    codes = Codes(space)
    first = np.array([[0, 0, 0, 0, 0]], dtype=np.int32)
    second = np.array([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [3, 2, 1, 2, 2]], dtype=np.int32)
    shares = EqualDecisions(codes, ordered=True).between(first, second)
    assert shares[0] == pytest.approx([1.0, (1 / 3 + 1 / 4) / 5, 0.0])
    assert EqualDecisions(codes).between(first, second)[0].tolist() == [1.0, 0.0, 0.0]


@every_space
@pytest.mark.parametrize("ordered", [False, True])
def test_changes_tell_what_whole_rows_tell(space: ArchSpace, ordered: bool) -> None:
    """Of neighbours and mutants, of a centre itself, and of rows from anywhere."""
    codes, rng = Codes(space), np.random.default_rng(0)
    equal, around = EqualDecisions(codes, ordered=ordered), made(codes, rng, set())
    around = Candidates(
        np.concatenate([around.rows, around.centres]),
        np.append(around.owners, np.arange(4)),
        around.centres,
    )
    rows = np.concatenate([codes.uniform(50, rng), around.centres, around.rows[:3]])
    assert equal.to(rows).of(around).tolist() == equal.between(around.rows, rows).tolist()
    assert equal.to(rows[:0]).of(around).shape == (len(around), 0)


@every_space
def test_candidates_are_unseen_each_once_and_near_their_centres(space: ArchSpace) -> None:
    codes, rng = Codes(space), np.random.default_rng(0)
    seen = set(codes.keys(made(codes, np.random.default_rng(0), set()).rows)[::2])
    around = made(codes, rng, seen)
    keys = codes.keys(around.rows)
    assert len(set(keys)) == len(keys)
    assert not seen & set(keys)
    if space in (WIDE, DEEP):
        own = around.owners >= 0
        changed = (around.rows != around.centres[around.owners]).sum(1)
        assert ((changed[own] >= 1) & (changed[own] <= 3)).all()


def test_of_many_neighbours_some_are_drawn() -> None:
    """Uniformly and each once: of the 600, every one in 2 of 3 draws of 400, within 5 deviations.

    By chance one of 600 lies outside with probability 600 x 6e-7 = 3e-4.
    """
    codes, rng = Codes(DEEP), np.random.default_rng(0)
    row = codes.uniform(1, rng)[0]
    found = np.zeros((300, 3), dtype=int)
    draws = 90

    def once(most: int | None) -> Rows:
        rows = codes.neighbours(row, rng, most=most)
        at, columns = np.nonzero(rows != row)
        assert at.tolist() == list(range(len(rows)))  # one change each
        values = rows[at, columns]
        assert len({*zip(columns.tolist(), values.tolist(), strict=True)}) == len(rows)
        found[columns, values] += 1
        return rows

    for _ in range(draws):
        assert len(once(NEIGHBOURS)) == NEIGHBOURS
    counts = np.sort(found.ravel())
    assert counts[:300].tolist() == [0] * 300  # the values of the row itself
    spread = np.sqrt(draws * 2 / 9)
    assert (np.abs(counts[300:] - draws * 2 / 3) < 5 * spread).all()
    assert len(once(None)) == 600


@every_space
@pytest.mark.parametrize("objectives", [1, 2])
def test_bounds_are_those_of_vectors_of_ones(space: ArchSpace, objectives: int) -> None:
    """The model as it was first written, of dense features; the same candidate is the best."""
    codes, rng = Codes(space), np.random.default_rng(1)
    around, rows, flying = made(codes, rng, set()), codes.uniform(50, rng), codes.uniform(3, rng)
    targets = rng.standard_normal((50, objectives))
    ridge = KernelRidge(Likeness(EqualDecisions(codes)), rows, targets, flying, noise=0.1)
    points = codes.features(np.concatenate([rows, flying]))
    known, cross = points @ points.T, points @ codes.features(around.rows).T
    gram = 0.3 * known + 0.7 * known**2 + 0.1 * np.eye(53)
    cross = 0.3 * cross + 0.7 * cross**2
    mean = cross[:50].T @ np.linalg.solve(gram[:50, :50], targets)
    variance = 1 - (cross * np.linalg.solve(gram, cross)).sum(0)
    scales = 1.0
    if objectives > 1:
        scales = 1.5**2 * (targets * np.linalg.solve(gram[:50, :50], targets)).mean(0)
    upper = np.round(mean + np.sqrt(variance[:, None] * scales), 9)
    found = ridge.bounds(around)
    assert found[0] == pytest.approx(mean, abs=2e-9)
    assert found[1] == pytest.approx(upper, abs=2e-9)
    assert found[1].argmax(0).tolist() == upper.argmax(0).tolist()


def test_numbers_of_any_count_may_be_near() -> None:
    """What all their counts divide is beyond any integer of a processor: 65 counts, to 67."""
    space = ArchSpace.of(**{f"c{count:02}": range(count) for count in range(3, 68)})
    codes = Codes(space)
    equal, first = EqualDecisions(codes, ordered=True), codes.uniform(3, np.random.default_rng(0))
    last = np.array(codes.sizes)[None] - 1
    assert np.diag(equal.between(first, first)).tolist() == [1.0] * 3
    assert equal.between(last, 0 * last).tolist() == [[0.0]]
    steps = last[0]
    expected = 0.5 * (1 - np.abs(first[0] - first[1]) / steps) + 0.5 * (first[0] == first[1])
    assert equal.between(first[:1], first[1:2])[0, 0] == pytest.approx(expected.mean(), abs=1e-6)
