"""Proposals under tight bounds: reached in few looks, and where nothing keeps them, said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.constraints import Constraint
from raynas.core.feasible import STEPS, Violation, repaired, slack
from raynas.core.sampler import SAMPLERS
from raynas.core.trial import Trial
from tests.elasticspace import ELASTIC, effects


class Counted:
    """What an elastic architecture costs, and how often it was looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, arch: Arch) -> dict[str, float]:
        """Return a sum over blocks, times the image's size, and how many decisions there are."""
        self.looks += 1
        values = {label: int(str(value)) for label, value in arch.items()}
        blocks = [
            values[label] ** 2 * values[label.replace("kernel", "expand")]
            for label in values
            if label.endswith("kernel")
        ]
        return {"macs": float(values["resolution"] * sum(blocks)), "size": float(len(values))}


LEAST = 16.0 * 6 * 27  # two blocks in each of three stages, 3 * 3 * 3 each


def limited(*bounds: Constraint) -> tuple[ArchSpace, Counted]:
    cheap = Counted()
    return replace(ELASTIC, violation=Violation(bounds, cheap)), cheap


@pytest.mark.parametrize("high", [1.0, 1.1, 1.5, 4.0])
def test_any_architecture_is_repaired_in_few_looks(high: float) -> None:
    space, cheap = limited(Constraint("macs", high=high * LEAST))
    assert isinstance(space.violation, Violation)
    assert space.violation.inside(space) is not None  # sought once
    rng, labels = np.random.default_rng(0), len(space.labels)
    for _ in range(40):
        before = cheap.looks
        arch = repaired(space, space.sample(rng), rng)
        assert arch is not None
        space.check(arch)
        assert cheap.looks - before <= 1 + STEPS + math.ceil(math.log2(labels))
        assert cheap(arch)["macs"] <= high * LEAST


def test_repairs_end_close_to_the_bound_and_are_different() -> None:
    space, cheap = limited(Constraint("macs", high=3 * LEAST))
    rng = np.random.default_rng(1)
    archs = [repaired(space, space.sample(rng), rng) for _ in range(60)]
    assert len(set(archs)) > 50
    assert np.median([cheap(arch)["macs"] for arch in archs if arch]) > 2.5 * LEAST


def test_what_keeps_the_bounds_by_far_is_the_same_at_every_call() -> None:
    bounds = Constraint("macs", high=3 * LEAST), Constraint("size", low=14.0)
    space, cheap = limited(*bounds)
    assert isinstance(space.violation, Violation)
    inside = space.violation.inside(space)
    assert inside is not None
    looks = cheap.looks
    assert space.violation.inside(space) is inside
    assert cheap.looks == looks
    again, _ = limited(*bounds)
    assert isinstance(again.violation, Violation)
    assert again.violation.inside(again) == inside
    # the nearer of two bounds is as far as single changes bring it
    assert space.violation.slack(inside) == min(slack(c, cheap(inside)[c.metric]) for c in bounds)
    assert space.violation.slack(inside) > 0.05


def test_bounds_that_nothing_keeps_have_no_inside() -> None:
    space, _ = limited(Constraint("macs", high=0.99 * LEAST))
    assert isinstance(space.violation, Violation)
    assert space.violation.inside(space) is None
    rng = np.random.default_rng(0)
    assert repaired(space, space.sample(rng), rng) is None


def test_slack_is_the_nearer_ends_share() -> None:
    both = Constraint("x", low=10.0, high=20.0)
    assert [slack(both, value) for value in (15.0, 19.0, 11.0, 30.0, 5.0)] == pytest.approx(
        [0.25, 0.05, 0.1, -0.5, -0.5]
    )
    assert slack(both, math.nan) == -math.inf


# a grid goes through the space in order, and so through all that lies beyond the bounds
@pytest.mark.parametrize("name", sorted({*SAMPLERS} - {"grid"}))
def test_every_sampler_searches_an_elastic_space_near_the_least_cost(name: str) -> None:
    """Some hundreds of 10^12 architectures keep the bound: few values are not the smallest."""
    space, cheap = limited(Constraint("macs", high=1.2 * LEAST))
    sampler, surface = SAMPLERS[name](space, seed=0), effects(0)
    asked: list[Arch] = []
    looks: list[int] = []
    for _ in range(25):
        before = cheap.looks
        asked.append(sampler.ask())
        looks.append(cheap.looks - before)
        sampler.tell(Trial.completed(asked[-1], surface(asked[-1])))
    assert len(set(asked)) == 25
    assert all(cheap(arch)["macs"] <= 1.2 * LEAST for arch in asked)
    assert _median(looks) < 2000


def _median(values: Sequence[int]) -> float:
    return float(np.median(values))
