"""The accuracy predictor of a supernet: what it is fitted to, what it says, and its report."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.codes import Codes
from raynas.core.constraints import Constraint
from raynas.core.decision import Choice, Subset
from raynas.core.feasible import Violation
from raynas.supernet.accuracy_predictor import AccuracyPredictor
from raynas.supernet.blas import one_blas_thread
from raynas.supernet.forecast import evolved, forecast
from tests.elasticspace import ELASTIC, effects


def drawn(count: int, seed: int = 0) -> list[Arch]:
    rng = np.random.default_rng([7, seed])
    return [ELASTIC.sample(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def scored() -> tuple[list[Arch], list[float]]:
    archs, surface = drawn(300), effects(0)
    return archs, [surface(arch) for arch in archs]


def test_a_skipped_block_is_zeros() -> None:
    block = ArchSpace((Choice("kernel", (3, 5, 7)), Subset("paths", ("a", "b"), None)))
    space = ArchSpace((Choice("depth", (0, 1), {1: block}), Choice("size", (16, 24))))
    codes = Codes(space)
    rows = np.stack(
        [
            codes.encode({"depth": 1, "kernel": 5, "paths": ("b",), "size": 24}),
            codes.encode({"depth": 0, "size": 16}),
        ]
    )
    assert codes.one_hot(rows).tolist() == [
        [0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1],  # depth, kernel, a, b, size
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    ]


def test_it_ranks_what_it_was_not_fitted_to(scored: tuple[list[Arch], list[float]]) -> None:
    """Blind to the architectures, tau over 200 has a deviation of 0.048: 0.5 is ten of them."""
    predictor = AccuracyPredictor(ELASTIC, seed=3)
    report = predictor.fit(*scored)
    assert predictor.report == report
    assert (report.fitted, report.count) == (240, 60)
    others = drawn(200, seed=1)
    truth = [effects(0)(arch) for arch in others]
    assert kendalltau(predictor.predict(others), truth).statistic > 0.5


def test_the_report_is_of_the_fifth_that_was_held_out(
    scored: tuple[list[Arch], list[float]],
) -> None:
    archs, scores = scored
    predictor = AccuracyPredictor(ELASTIC, seed=3)
    report = predictor.fit(archs, scores)
    held = np.random.default_rng([3, 300]).permutation(300)[:60]
    said, true = predictor.predict([archs[i] for i in held]), np.array(scores)[held]
    assert report.kendall_tau == pytest.approx(kendalltau(said, true).statistic)
    assert report.deviation == pytest.approx(np.sqrt(np.mean((said - true) ** 2)))
    others = np.delete(np.arange(300), held)
    seen = predictor.predict([archs[i] for i in others])
    error = np.sqrt(np.mean((seen - np.array(scores)[others]) ** 2))
    assert error < 0.7 * report.deviation  # those it has learned
    assert str(report) == (
        "fitted to 240 architectures; on 60 held out, Kendall's tau "
        f"{report.kendall_tau:.2f}, error {report.deviation:.3g}"
    )


def test_a_seed_fixes_it_and_scores_may_have_any_unit(
    scored: tuple[list[Arch], list[float]],
) -> None:
    archs, scores = scored
    others = drawn(20, seed=2)

    def said(seed: int, unit: float = 1.0, zero: float = 0.0) -> NDArray[np.float64]:
        predictor = AccuracyPredictor(ELASTIC, seed=seed)
        predictor.fit(archs[:60], [zero + unit * score for score in scores[:60]])
        return predictor.predict(others)

    first = said(0)
    assert said(0).tolist() == first.tolist()
    assert said(1).tolist() != first.tolist()
    np.testing.assert_allclose(said(0, 0.001, 0.7), 0.7 + 0.001 * first, atol=1e-6)


def test_scores_that_have_nothing_to_do_with_architectures_are_not_told() -> None:
    """Tau over 60 has a deviation of 0.089: |tau| > 0.36 in one of 15,000 draws of the scores."""
    scores = np.random.default_rng(1).standard_normal(300)
    report = AccuracyPredictor(ELASTIC).fit(drawn(300), list(scores))
    assert abs(report.kendall_tau) < 0.36
    assert report.deviation > 0.8


@pytest.mark.parametrize("count", [1, 9])
def test_of_few_none_is_held_out(count: int) -> None:
    archs = drawn(count)
    report = AccuracyPredictor(ELASTIC).fit(archs, [float(i) for i in range(count)])
    assert (report.fitted, report.count) == (count, 0)
    assert math.isnan(report.kendall_tau)
    assert report.deviation == pytest.approx(np.std(range(count)))
    assert str(report) == f"fitted to {count} architectures, none held out"


def test_equal_scores_have_no_order() -> None:
    predictor = AccuracyPredictor(ELASTIC)
    report = predictor.fit(drawn(20), [0.5] * 20)
    assert math.isnan(report.kendall_tau)
    assert report.deviation == 0.0
    assert predictor.predict(drawn(3)).tolist() == [0.5] * 3


def test_what_does_not_fit_is_said() -> None:
    predictor = AccuracyPredictor(ELASTIC)
    with pytest.raises(RuntimeError, match="knows no scores yet: call fit first"):
        predictor.predict(drawn(1))
    with pytest.raises(ValueError, match=r"got 2 architectures and scores of shape \(1,\)"):
        predictor.fit(drawn(2), [1.0])
    with pytest.raises(ValueError, match="at least one architecture, got 0"):
        predictor.fit([], [])
    with pytest.raises(ValueError, match="expected finite scores"):
        predictor.fit(drawn(2), [1.0, math.nan])


# --- evolution on what is predicted ---------------------------------------------------------------


def bounded(high: float) -> ArchSpace:
    """Return the elastic space under a limit on the sum of all values."""
    from dataclasses import replace

    def total(arch: Arch) -> dict[str, float]:
        return {"sum": float(sum(int(str(value)) for value in arch.values()))}

    limit = Violation([Constraint("sum", high=high)], total)
    return replace(ELASTIC, violation=limit)


@pytest.mark.parametrize("high", [None, 110.0])
def test_evolution_ends_far_above_what_is_drawn(high: float | None) -> None:
    """The best of as many random ones within the bounds would have to be the best by chance."""
    space = ELASTIC if high is None else bounded(high)
    codes, surface = Codes(space), effects(4)

    def value(rows: NDArray[np.int32]) -> NDArray[np.float64]:
        return np.array([[surface(codes.decode(row))] for row in rows])

    starts = codes.uniform(4, np.random.default_rng(0))
    pool = evolved(space, codes, value, starts, np.random.default_rng(1))
    archs = [codes.decode(row) for row in pool]
    scores = [surface(arch) for arch in archs]
    assert scores == sorted(scores, reverse=True)
    assert len(set(archs)) == len(archs) == 64
    for arch in archs:
        space.check(arch)
        assert space.violation is None or space.violation(arch) == 0.0
    rng = np.random.default_rng(2)
    some = [arch for arch in (space.sample(rng) for _ in range(1000))]
    kept = [a for a in some if space.violation is None or space.violation(a) == 0.0]
    assert len(kept) > 30
    assert scores[0] > max(map(surface, kept))
    again = evolved(space, codes, value, starts, np.random.default_rng(1))
    assert again.tolist() == pool.tolist()


def test_of_several_objectives_the_front_comes_first() -> None:
    codes, surfaces = Codes(ELASTIC), (effects(5), effects(6))
    archs = drawn(60)
    rows = np.stack([codes.encode(arch) for arch in archs])
    targets = np.array([[surface(arch) for surface in surfaces] for arch in archs])
    view = forecast(ELASTIC, codes, rows, targets, rows[:8], seed=0)
    assert (len(view.predictors), view.count, view.mean(rows).shape) == (2, 60, (60, 2))
    assert view.deviation.tolist() == [report.deviation for report in view.reports]
    said = view.mean(view.pool)
    beaten = [bool(((said >= one).all(1) & (said > one).any(1)).any()) for one in said]
    assert beaten == sorted(beaten)
    assert not beaten[0]


def test_linear_algebra_has_one_thread_for_a_while() -> None:
    from threadpoolctl import ThreadpoolController

    def threads() -> set[int]:
        libraries = ThreadpoolController().select(user_api="blas").info()
        return {library["num_threads"] for library in libraries}

    before = threads()
    assert before
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == before
