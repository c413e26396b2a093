"""How often options are taken, wherever they stand, beside which decisions are equal: by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from raynas.core.archspace import ArchSpace
from raynas.core.candidates import Candidates
from raynas.core.codes import Codes, Rows
from raynas.core.decision import Choice
from raynas.core.kernel_ridge import KernelRidge
from raynas.core.likeness import Likeness
from raynas.core.option_counts import COUNTS, OptionCounts
from raynas.core.similarity import EqualDecisions
from raynas.core.surrogate import Average, evidence, posterior_bounds, probabilities

ROW = ArchSpace.of(**{f"p{i}": ("conv", "pool", "skip") for i in range(6)})


def rows(space: ArchSpace, *numbers: list[int]) -> Rows:
    assert all(len(row) == len(Codes(space).sizes) for row in numbers)
    return np.array(numbers, dtype=np.int32)


def test_common_options_are_counted_wherever_they_stand() -> None:
    """Four choices of three options; two of two others; one alone, which is not looked at."""
    space = ArchSpace.of(
        **{f"a{i}": ("x", "y", "z") for i in range(4)}, b0=(1, 2), b1=(1, 2), alone=(0.1, 0.2)
    )
    first = rows(space, [0, 0, 1, 2, 0, 1, 0])
    second = rows(space, [2, 1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0])
    shares = OptionCounts(Codes(space)).between(first, second)
    assert shares[0] == pytest.approx([1.0, (2 + 1) / 6, (1 + 1) / 6])


def test_what_is_not_reached_is_an_option_of_its_own() -> None:
    inner = [Choice(f"p{i}", ("x", "y")) for i in range(3)]
    space = ArchSpace((Choice("depth", ("none", "all"), {"all": ArchSpace(tuple(inner))}),))
    made = rows(space, [0, -1, -1, -1], [1, 0, 0, 1])
    shares = OptionCounts(Codes(space)).between(made, made)
    assert shares.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_there_are_no_counts_where_no_options_are_shared_or_too_many_are() -> None:
    assert not OptionCounts(Codes(ArchSpace.of(a=(1, 2), b=(1, 2, 3))))
    many = range(COUNTS)
    assert not OptionCounts(Codes(ArchSpace.of(a=many, b=many)))


def test_the_evidence_of_two_points_by_hand() -> None:
    """K = [[1.1, k], [k, 1.1]] has the values 1.1 - k and 1.1 + k; (1, -1) is of the first."""
    for k in (0.0, 0.5):
        known, targets = np.array([[1.0, k], [k, 1.0]]), np.array([[1.0], [-1.0]])
        halves = math.log((1.1 - k) * (1.1 + k)) / 2 + math.log(1 / (1.1 - k))
        assert evidence(known, targets, noise=0.1) == pytest.approx(-halves, abs=1e-8)


def test_probabilities_are_those_of_the_evidences_but_tiny_ones() -> None:
    evidences = [3.0, 3.0 + math.log(3), -9.0]
    assert probabilities(evidences, [1, 1, 1]) == pytest.approx([0.25, 0.75, 0.0])
    assert probabilities(evidences, [0.6, 0.1, 0.3]) == pytest.approx([2 / 3, 1 / 3, 0.0])


def test_an_average_of_models_is_unsure_of_what_they_disagree_about() -> None:
    """Of one point, likeness 1 in one and 0 in the other: means 2 / 1.1 and 0."""
    own, targets = np.eye(1), np.array([[2.0]])
    unlike, like = np.zeros((1, 1)), np.ones((1, 1))
    average = Average([(0.25, own), (0.75, own)], targets, noise=0.1)
    mean, upper = average.bounds([unlike, like])
    variance = 1 - 1 / 1.1 + 0.75 * 0.25 * (2 / 1.1) ** 2
    assert mean[0, 0] == pytest.approx(1.5 / 1.1, abs=1e-8)
    assert upper[0, 0] == pytest.approx(1.5 / 1.1 + math.sqrt(variance), abs=1e-8)
    alone = Average([(1.0, own)], targets, noise=0.1).bounds([like])
    assert alone == posterior_bounds(own, like, targets, noise=0.1)


def test_several_objectives_have_deviations_of_their_own_scales() -> None:
    """Two alike points: targets of 2 and 2 are unlikelier than 1 and 1, of one scale each."""
    known, cross = np.eye(2), np.array([[0.5, 0.0]])
    targets = np.array([[2.0, 1.0], [2.0, 1.0]])
    mean, upper = posterior_bounds(known, cross, targets, noise=0.1)
    assert mean[0] == pytest.approx([1 / 1.1, 0.5 / 1.1], abs=1e-8)
    deviation = math.sqrt(1 - 0.25 / 1.1)
    scales = [math.sqrt(4 / 1.1), math.sqrt(1 / 1.1)]
    assert upper[0] - mean[0] == pytest.approx([1.5 * s * deviation for s in scales], abs=1e-8)


def squared_errors(effects: NDArray[np.float64], rng: np.random.Generator) -> list[float]:
    """Return what a model of 40 points errs by on 50 others: without counts, and with them."""
    codes = Codes(ROW)
    made = codes.uniform(90, rng)
    scores = effects[np.arange(6), made].sum(1, keepdims=True)
    told = made[:40], scores[:40], made[:0]
    around = Candidates(made[40:], np.full(50, -1), made[:0])
    likeness = (Likeness(EqualDecisions(codes), counts) for counts in (None, OptionCounts(codes)))
    both = (KernelRidge(alike, *told, noise=0.1) for alike in likeness)
    return [float(np.square(m.bounds(around)[0] - scores[40:]).mean()) for m in both]


def test_counts_are_weighed_by_what_the_targets_say() -> None:
    """Where scores are of counts alone they tell more; where of places, they do little harm."""
    errors = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        of_counts, of_places = rng.standard_normal((1, 3)).repeat(6, 0), rng.normal(size=(6, 3))
        errors.append([squared_errors(effects, rng) for effects in (of_counts, of_places)])
    (plain, counted), (placed, harmed) = np.mean(errors, axis=0)
    assert counted < 0.9 * plain
    assert harmed < 1.1 * placed
