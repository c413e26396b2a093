"""Several objectives, how they are merged, and bounds that proposals keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.constraints import Constraint
from raynas.core.deduplicator import Deduplicator
from raynas.core.errors import Exhausted
from raynas.core.evaluator import Measurement
from raynas.core.feasible import Violation, excess, repaired
from raynas.core.goals import Goals, goals_of
from raynas.core.objectives import MissingObjective
from raynas.core.sampler import SAMPLERS
from raynas.core.study import Study, StudyInfo
from raynas.core.trial import Trial

SPACE = ArchSpace.of(**{f"w{i}": [1, 2, 4, 8] for i in range(6)})
BOTH = {"accuracy": "max", "macs": "min"}


def total(arch: Any) -> float:
    return float(sum(arch.values()))


def test_scores_of_several_and_of_their_weighted_sum() -> None:
    metrics = {"accuracy": 0.9, "macs": 2e6}
    both = goals_of(BOTH)
    assert both.scores(metrics) == (0.9, -2e6)
    assert both.merged(metrics) == 0.9
    assert both.several
    one = goals_of(BOTH, weights={"accuracy": 2.0, "macs": -1e-6})
    assert one.scores(metrics) == pytest.approx((-0.2,))
    assert one.merged(metrics) == pytest.approx(-0.2)
    assert not one.several
    with pytest.raises(MissingObjective, match="no metric 'macs'"):
        both.scores({"accuracy": 0.9})


@pytest.mark.parametrize(
    ("objectives", "weights", "said"),
    [
        ({}, None, "at least one objective"),
        (BOTH, {"accurcy": 1.0}, "'accurcy' is no objective; did you mean 'accuracy'"),
        (BOTH, {"accuracy": 1.0}, "no weight for the objective 'macs'"),
        (BOTH, {"accuracy": 1.0, "macs": 1.0}, "'macs' must be below 0 for its goal"),
        (BOTH, {"accuracy": -1.0, "macs": -1.0}, "'accuracy' must be above 0"),
        ({"accuracy": "most"}, None, "'most'"),
    ],
)
def test_contradictions_are_refused(
    objectives: dict[str, str], weights: dict[str, float] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        goals_of(objectives, weights=weights)


def test_excess_is_a_share_of_the_bound() -> None:
    both = Constraint("x", low=10.0, high=20.0)
    assert [excess(both, v) for v in (5.0, 10.0, 20.0, 30.0)] == [0.5, 0.0, 0.0, 0.5]
    assert excess(Constraint("x", high=0.0), 3.0) == 3.0


def limited(high: float, low: float | None = None) -> ArchSpace:
    bounds = [Constraint("sum", low=low, high=high)]
    from dataclasses import replace

    return replace(SPACE, violation=Violation(bounds, lambda arch: {"sum": total(arch)}))


def test_repair_reaches_the_bounds_and_leaves_what_keeps_them() -> None:
    space, rng = limited(8.0), np.random.default_rng(0)
    for _ in range(50):
        arch = repaired(space, space.sample(rng), rng)
        assert arch is not None
        assert total(arch) <= 8
    kept = Arch({f"w{i}": 1 for i in range(6)})
    assert repaired(space, kept, rng) is kept
    assert repaired(limited(5.0), kept, rng) is None  # the least sum is 6


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_no_sampler_proposes_beyond_the_bounds(name: str) -> None:
    space = limited(12.0)  # 1.3 % of the space: 53 of 4,096
    share = sum(total(arch) <= 12 for arch in SPACE)
    sampler = SAMPLERS[name](space, seed=0)
    seen = set()
    for number in range(30):
        arch = sampler.ask()
        assert total(arch) <= 12
        seen.add(arch)
        sampler.tell(Trial.completed(arch, float(number % 7)))
    assert len(seen) == 30 < share


def test_what_keeps_the_bounds_is_exhausted() -> None:
    inside = [arch for arch in SPACE if total(arch) <= 8]
    visited = Deduplicator(limited(8.0), np.random.default_rng(0))
    found = set()
    for _ in inside:
        found.add(visited.propose(lambda: SPACE.sample(np.random.default_rng(1))))
    assert found == set(inside)
    with pytest.raises(Exhausted, match="within the bounds"):
        visited.propose(lambda: SPACE.sample(np.random.default_rng(2)))


def study_of(goals: Goals, rows: list[Trial], history: list[Trial] | None = None) -> Study:
    return Study(
        SAMPLERS["random"](SPACE, seed=0),
        goals,
        trials=20,
        setting=StudyInfo(algo="random", evaluator="function"),
        sink=rows.extend,
        history=history or (),
    )


def run(study: Study, count: int) -> None:
    for _ in range(count):
        asked = study.ask()
        assert asked is not None
        metrics = {"accuracy": total(asked.arch) / 48, "macs": total(asked.arch)}
        study.tell([(asked, Measurement(metrics=metrics))])


def test_a_trial_beyond_a_measured_bound_is_infeasible() -> None:
    rows: list[Trial] = []
    goals = goals_of(BOTH, constraints=[Constraint("macs", high=20.0)])
    study = study_of(goals, rows)
    run(study, 20)
    assert {trial.status for trial in rows} == {"completed", "infeasible"}
    for trial in rows:
        inside = total(trial.arch) <= 20
        assert (trial.status == "completed") == inside == trial.scored
        assert trial.scores == ((trial.metrics["accuracy"], -trial.metrics["macs"]) * inside)
    assert study.best is not None
    assert total(study.best.arch) <= 20


def test_scores_come_back_on_replay() -> None:
    rows: list[Trial] = []
    run(study_of(goals_of(BOTH), rows), 5)
    from dataclasses import replace

    bare = [replace(trial, scores=()) for trial in rows]  # as the store gives them back
    told: list[Trial] = []
    study = study_of(goals_of(BOTH), told, history=bare)
    assert study.told == 5
    assert study.best is not None
    assert study.best.scores == (study.best.metrics["accuracy"], -study.best.metrics["macs"])


def test_a_missing_bounded_metric_ends_the_search() -> None:
    rows: list[Trial] = []
    study = study_of(goals_of({"accuracy": "max"}, constraints=[Constraint("mac", high=1.0)]), rows)
    run(study, 1)
    assert study.failure is not None
    assert "no metric 'mac', which is bounded; did you mean 'macs'" in study.failure
