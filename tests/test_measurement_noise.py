"""What predictor makes of architectures that were measured several times, in one run or in two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raynas.algorithms.predictor import Predictor
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.codes import Codes
from raynas.core.measurement_noise import VARIANCES, earlier_noise, own_noise
from raynas.core.points import Points
from raynas.core.surrogate import kernel, posterior_bounds
from raynas.core.trial import Trial

SPACE = ArchSpace.of(**{f"p{i}": range(3) for i in range(5)})
EFFECTS = np.random.default_rng(3).normal(size=(5, 3))


def score(arch: Arch) -> float:
    return float(sum(EFFECTS[i, int(str(arch[f"p{i}"]))] for i in range(5)))


def told_often(*noises: float) -> list[str]:
    """Return what is asked if all is measured so often, with this added to each score in turn."""
    sampler, asked = Predictor(SPACE, seed=0), []
    for _ in range(25):
        arch = sampler.ask()
        asked.append(arch.key)
        for noise in noises:
            sampler.tell(Trial.completed(arch, score(arch) + noise))
    return asked


def test_what_is_measured_alike_again_changes_nothing() -> None:
    assert told_often(0.0) == told_often(0.0, 0.0, 0.0)
    assert told_often(0.0) != told_often(0.9, -0.9)  # the same means, of noisy measurements


def test_a_duplicate_is_no_other_measurement() -> None:
    asked: list[Any] = []
    for status in ("completed", "duplicate"):
        sampler = Predictor(SPACE, seed=0)
        first = sampler.ask()
        sampler.tell(Trial.completed(first, 1.0))
        again = Trial.completed(first, 9.0)
        sampler.tell(Trial(**{**vars(again), "status": status}))
        asked.append(sampler._points.scores([0]).tolist())
    assert asked == [[[5.0]], [[1.0]]]


def test_several_measurements_are_one_point_of_their_mean() -> None:
    codes = Codes(SPACE)
    rows = codes.uniform(3, np.random.default_rng(0))
    points = Points(codes)
    numbers = [points.add(rows[at], (value,)) for at, value in ((0, 1.0), (1, 4.0), (0, 2.0))]
    assert numbers == [0, 1, 0]
    assert points.scores([0, 1]).tolist() == [[1.5], [4.0]]
    assert points.measurements([0, 1]).tolist() == [2, 1]
    # the targets of 1.0 and 2.0 are those of 1.5 and half of the way to that of 4.0
    scores, targets = np.array([[1.5], [4.0], [0.0]]), np.array([[0.0], [1.0], [-1.0]])
    low, high = -1.0 / 3, 0.2
    squares = 2 * ((high - low) / 2) ** 2
    assert own_noise(points, scores, targets) == pytest.approx(squares / (1 + 2), abs=1e-8)
    assert own_noise(Points(codes), scores, targets) == 0.0


def test_each_target_has_its_own_noise() -> None:
    """Two points of one kernel: a target of little noise counts more."""
    known, cross = np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[0.5, 0.5]])
    noise = np.array([0.1, 0.9])
    mean, upper = posterior_bounds(known, cross, np.array([[1.0], [-1.0]]), noise=noise)
    inverse = np.array([[1.9, -0.5], [-0.5, 1.1]]) / (1.1 * 1.9 - 0.25)
    assert mean[0, 0] == pytest.approx(float((cross @ inverse @ [[1.0], [-1.0]])[0, 0]), abs=1e-8)
    variance = 1 - float((cross @ inverse @ cross.T)[0, 0])
    assert upper[0, 0] - mean[0, 0] == pytest.approx(variance**0.5, abs=1e-8)


def likelihood(known: Any, targets: Any, noise: Any) -> float:
    """Return the log density of the targets, of the best scale, up to a constant."""
    gram = known + np.diag(noise)
    scale = targets @ np.linalg.inv(gram) @ targets / len(targets)
    return float(-np.log(np.linalg.det(gram)) / 2 - len(targets) / 2 * np.log(scale))


def test_an_earlier_run_has_the_noise_of_the_largest_likelihood() -> None:
    codes, rng = Codes(SPACE), np.random.default_rng(1)
    rows = codes.uniform(60, rng)
    own = np.arange(60) >= 40
    true = EFFECTS[np.arange(5), rows].sum(1)
    known = kernel((rows[:, None] == rows).mean(2))
    chosen = []
    for deviation in (0.0, 10.0):
        scores = true + deviation * rng.standard_normal(60) * ~own
        targets = (scores - scores.mean()) / scores.std()
        noise = np.full(60, 0.1)
        chosen.append(earlier_noise(known, targets[:, None], noise, own))
        told = [likelihood(known, targets, noise + variance * ~own) for variance in VARIANCES]
        assert chosen[-1] == VARIANCES[int(np.argmax(told))]
    assert chosen[0] == 0.0 < chosen[1]
    assert earlier_noise(known, true[:, None], np.full(60, 0.1), np.ones(60, dtype=bool)) == 0.0
