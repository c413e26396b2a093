"""What each sampler does beyond the contract: its own rules, by numbers worked out by hand."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from raynas.algorithms.evolution import Evolution
from raynas.algorithms.grid import GridSearch
from raynas.algorithms.local_search import LocalSearch
from raynas.algorithms.nsga2 import NSGA2
from raynas.algorithms.predictor import Predictor
from raynas.algorithms.regularized_evolution import RegularizedEvolution
from raynas.algorithms.reinforce import Baseline, Reinforce, chances, draw, entropy_gradient
from raynas.algorithms.tpe import TPE
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.constraints import Constraint
from raynas.core.decision import Choice, Subset
from raynas.core.errors import Exhausted
from raynas.core.feasible import Violation
from raynas.core.objectives import pareto_mask
from raynas.core.optuna_sampler import OptunaSampler
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.surrogate import improvement, kernel, posterior_bounds
from raynas.core.trial import Trial
from raynas.supernet.forest import forest_bounds

PLANE = ArchSpace.of(x=range(5), y=range(5))


def tree() -> ArchSpace:
    """Return a space with a conditional decision, a small subset and a large one."""
    conv = ArchSpace((Choice("kernel", (3, 5, 7)),))
    return ArchSpace(
        (
            Choice("op", ("conv", "pool"), {"conv": conv}),
            Subset("inputs", ("a", "b", "c"), 2),
            Subset("taps", tuple(range(8)), 4),  # 70 values: one parameter per option
        )
    )


def told(sampler: Sampler, arch: Arch, score: float) -> Arch:
    """Tell a score and return the architecture."""
    sampler.tell(Trial.completed(arch, score))
    return arch


def distance(first: Arch, second: Arch) -> int:
    """Return in how many labels two flat architectures differ."""
    return sum(first[label] != second[label] for label in first)


# --- every sampler --------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["evolution", "local_search", "reinforce", "tpe", "predictor"])
def test_a_score_that_is_no_finite_number_teaches_nothing(name: str, score: float) -> None:
    def run(odd: Callable[[Arch], Trial]) -> list[Arch]:
        sampler = SAMPLERS[name](PLANE, seed=0)
        asked = []
        for i in range(20):
            asked.append(sampler.ask())
            value = float(distance(asked[-1], asked[0]))
            sampler.tell(odd(asked[-1]) if i % 4 == 3 else Trial.completed(asked[-1], value))
        return asked

    failed = run(lambda arch: Trial.failed(arch, "diverged"))
    assert run(lambda arch: Trial.completed(arch, score)) == failed


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_seeds_of_all_sizes_fix_a_run_and_differ(name: str) -> None:
    def run(seed: int) -> list[Arch]:
        objectives: dict[str, Any] = {"objectives": ("a", "b")} if name == "nsga2" else {}
        sampler = SAMPLERS[name](PLANE, seed=seed, **objectives)
        asked = []
        for _ in range(12):
            asked.append(sampler.ask())
            scores = [float(asked[-1]["x"]), -float(asked[-1]["y"])]  # type: ignore[arg-type]
            sampler.tell(Trial.scored_as(asked[-1], scores[: 1 + bool(objectives)]))
        return asked

    runs = {seed: run(seed) for seed in (0, 2**32, 2**32 + 1, 2**63 - 1)}
    assert all(run(seed) == asked for seed, asked in runs.items())
    assert len({tuple(asked) for asked in runs.values()}) == len(runs)


# --- grid -----------------------------------------------------------------------------------------


def test_grid_turns_the_last_decision_fastest() -> None:
    sampler = GridSearch(PLANE, seed=3)
    asked = [sampler.ask() for _ in range(25)]
    assert set(asked) == set(PLANE)
    rows = [[arch["x"] for arch in asked[i : i + 5]] for i in range(0, 25, 5)]
    assert all(len(set(row)) == 1 for row in rows)
    columns = [[arch["y"] for arch in asked[i : i + 5]] for i in range(0, 25, 5)]
    assert all(column == columns[0] for column in columns)
    with pytest.raises(Exhausted, match="all 25 architectures"):
        sampler.ask()


def test_grid_counts_through_a_tree_and_keeps_subsets_in_order() -> None:
    space = tree()
    sampler = GridSearch(space, seed=1)
    asked = [sampler.ask() for _ in range(space.size())]
    assert space.size() == (3 + 1) * 3 * 70
    for arch in asked:
        space.check(arch)
    assert len(set(asked)) == len(asked)


def test_a_grid_too_large_to_list_begins_at_once() -> None:
    space = ArchSpace.of(**{f"c{i}": range(10) for i in range(100)})
    first = [GridSearch(space, seed=seed).ask() for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


def test_a_grid_within_narrow_bounds_goes_on() -> None:
    """One in 290,000 keeps them (binomial): counting through would take seconds for each."""
    space = ArchSpace.of(**{f"c{i}": range(10) for i in range(40)})
    bound = Constraint("zeros", low=15.0)
    violation = Violation([bound], lambda arch: {"zeros": float(list(arch.values()).count(0))})
    sampler = GridSearch(replace(space, violation=violation), seed=0)
    asked = [sampler.ask() for _ in range(5)]
    assert len(set(asked)) == 5
    assert all(list(arch.values()).count(0) >= 15 for arch in asked)


# --- evolution ------------------------------------------------------------------------------------


def test_evolution_breeds_the_best_only() -> None:
    """Without mutation, a child of two parents has nothing that neither of them has."""
    space = ArchSpace.of(**{f"c{i}": range(50) for i in range(6)})
    sampler = Evolution(space, seed=0, population=8, selected=2, mutation_prob=0.0)
    asked = [sampler.ask() for _ in range(8)]
    for rank, arch in enumerate(asked):
        told(sampler, arch, float(rank % 7))  # the best: the seventh and the sixth
    parents = asked[6], asked[5]
    for _ in range(10):
        child = sampler.ask()
        assert all(child[label] in (parents[0][label], parents[1][label]) for label in child)


def test_evolution_mutates_every_decision_with_the_given_chance() -> None:
    space = ArchSpace.of(**{f"c{i:02}": range(10) for i in range(40)})
    sampler = Evolution(space, seed=0, population=1, selected=1, parents=1, mutation_prob=0.25)
    parent = told(sampler, sampler.ask(), 1.0)
    changed = [distance(sampler.ask(), parent) for _ in range(100)]
    # 4000 coins of 1/4: six standard deviations are 164, beyond them lies 2e-9
    assert abs(sum(changed) - 1000) < 164


@pytest.mark.parametrize(
    "options",
    [
        {"selected": 1, "parents": 2},
        {"selected": 30},
        {"population": 4, "selected": 5},
        {"parents": 0},
        {"mutation_prob": 1.5},
    ],
)
def test_evolution_refuses_numbers_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Evolution(PLANE, seed=0, **options)


@pytest.mark.parametrize(
    "options", [{"population": 1}, {"population": 3}, {"selected": 1}, {"population": 30}]
)
def test_evolution_lowers_what_is_not_said(options: dict[str, int]) -> None:
    sampler = Evolution(PLANE, seed=0, **options)
    selected = options.get("selected", min(5, options.get("population", 20)))
    written_out = {"population": 20, **options, "selected": selected, "parents": min(2, selected)}
    twin = Evolution(PLANE, seed=0, **written_out)
    for score in range(24):
        assert told(sampler, sampler.ask(), score) == told(twin, twin.ask(), score)


# --- regularized evolution ------------------------------------------------------------------------


def test_the_oldest_of_the_population_dies_and_not_the_worst() -> None:
    space = ArchSpace.of(**{f"c{i}": range(50) for i in range(6)})
    sampler = RegularizedEvolution(space, seed=0, population=3, tournament=3)
    asked = [sampler.ask() for _ in range(3)]
    for arch, score in zip(asked, (3.0, 1.0, 2.0), strict=True):
        told(sampler, arch, score)
    child = told(sampler, sampler.ask(), 0.0)  # the best is still alive, and dies now
    assert distance(asked[0], child) == 1
    assert all(distance(asked[2], sampler.ask()) == 1 for _ in range(5))


def test_the_best_of_a_tournament_is_the_parent() -> None:
    """The r-th best of 20 wins if it is among 16 drawn and no better one: 4/5, 16/95, 8/285, ..."""
    space = ArchSpace.of(**{f"c{i}": range(500) for i in range(6)})
    sampler = RegularizedEvolution(space, seed=0)
    ranked = [told(sampler, sampler.ask(), -float(rank)) for rank in range(20)]
    wins = [0] * 20
    for _ in range(400):
        child = sampler.ask()
        wins[[distance(parent, child) for parent in ranked].index(1)] += 1
    # six standard deviations of a share of 400 draws: false alarm below 1e-8
    assert abs(wins[0] - 320) < 6 * math.sqrt(400 * 4 / 25)
    assert sum(wins[5:]) == 0  # at most four of the twenty do not compete


@pytest.mark.parametrize(
    "options", [{"tournament": 0}, {"population": 5, "tournament": 6}, {"tournament": 21}]
)
def test_regularized_evolution_refuses_numbers_that_do_not_fit(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 <= tournament <= population"):
        RegularizedEvolution(PLANE, seed=0, **options)


# --- local search ---------------------------------------------------------------------------------


def test_local_search_starts_from_the_best_of_a_few() -> None:
    sampler = LocalSearch(PLANE, seed=0, starts=3)
    starts = [told(sampler, sampler.ask(), score) for score in (0.0, 2.0, 1.0)]
    assert all(distance(starts[1], sampler.ask()) == 1 for _ in range(5))
    with pytest.raises(ValueError, match="expected starts >= 1, got 0"):
        LocalSearch(PLANE, seed=0, starts=0)


def test_local_search_moves_to_the_first_better_neighbour() -> None:
    sampler = LocalSearch(PLANE, seed=0, starts=1)
    start = told(sampler, sampler.ask(), 0.0)
    worse = told(sampler, sampler.ask(), -1.0)
    better = told(sampler, sampler.ask(), 1.0)
    assert distance(start, worse) == distance(start, better) == 1
    after = [sampler.ask() for _ in range(5)]
    assert all(distance(better, arch) == 1 for arch in after)


def test_local_search_restarts_where_no_neighbour_is_better() -> None:
    sampler = LocalSearch(PLANE, seed=0, starts=1)
    peak = told(sampler, sampler.ask(), 1.0)
    around = [told(sampler, sampler.ask(), 0.0) for _ in range(8)]
    assert {distance(peak, arch) for arch in around} == {1}
    start = told(sampler, sampler.ask(), 0.5)
    assert distance(peak, start) == 2
    assert distance(start, sampler.ask()) == 1  # though the start is worse than the peak


def test_local_search_waits_for_its_last_neighbours_and_scores_starts_meanwhile() -> None:
    sampler = LocalSearch(PLANE, seed=0, starts=1)
    peak = told(sampler, sampler.ask(), 1.0)
    around = [sampler.ask() for _ in range(8)]
    start = sampler.ask()
    assert distance(peak, start) == 2
    told(sampler, start, 0.5)
    for arch in around[:-1]:
        told(sampler, arch, 0.0)
    assert distance(peak, sampler.ask()) == 2  # the last neighbour may still be better
    told(sampler, around[-1], 0.0)
    assert distance(start, sampler.ask()) == 1


def test_local_search_climbs_known_ground_without_asking() -> None:
    sampler = LocalSearch(PLANE, seed=0, starts=1)
    line = [Arch({"x": x, "y": 0}) for x in range(5)]
    for arch in line:
        told(sampler, arch, float(arch["x"] == 4) + float(arch["x"]))  # type: ignore[arg-type]
    told(sampler, Arch({"x": 0, "y": 1}), -1.0)
    arch = sampler.ask()
    assert distance(line[4], arch) == 1
    assert arch["y"] != 0


# --- reinforce ------------------------------------------------------------------------------------


def test_the_baseline_is_a_moving_mean_and_deviation() -> None:
    baseline = Baseline(0.5)
    assert baseline.advantage(2.0) == 0.0
    assert (baseline.mean, baseline.variance) == (2.0, 0.0)
    # mean 2 + 4 / 2, variance (0 + 16) / 2
    assert baseline.advantage(6.0) == pytest.approx(4 / math.sqrt(8))
    assert (baseline.mean, baseline.variance) == (4.0, 8.0)
    # 5 lies 1 above: mean 4 + 1 / 2, variance (8 + 1) / 2
    assert baseline.advantage(5.0) == pytest.approx(1 / math.sqrt(4.5))
    assert (baseline.mean, baseline.variance) == (4.5, 4.5)


@pytest.mark.parametrize("scale", [1.0, 1e-4, -1.0])
def test_reinforce_goes_towards_what_is_better(scale: float) -> None:
    """Second own trial: the advantage is sqrt(2) or its negative whatever the scale."""
    sampler = Reinforce(ArchSpace.of(a=[0, 1]), seed=0, learning_rate=0.5, entropy=0.0)
    first, second = sampler.ask(), sampler.ask()
    told(sampler, first, 3 * scale)
    assert sampler._logits["a"].tolist() == [0.0, 0.0]
    told(sampler, second, 5 * scale)
    step = 0.5 * math.sqrt(2) * 0.5 * np.sign(scale)  # rate x advantage x (1 - 1/2)
    expected = [step, -step] if second["a"] == 0 else [-step, step]
    assert sampler._logits["a"] == pytest.approx(expected)


def test_reinforce_ignores_strangers_and_what_is_not_reached() -> None:
    sampler = Reinforce(tree(), seed=0)
    strangers = [Arch({"op": "pool", "inputs": ("a", "b"), "taps": (0, 1, 2, i)}) for i in (3, 4)]
    for i, stranger in enumerate(strangers):
        told(sampler, stranger, float(i))
    assert not any(logits.any() for logits in sampler._logits.values())
    pools: list[Arch] = []
    while len(pools) < 2:
        arch = sampler.ask()
        pools += [arch] * (arch["op"] == "pool")
    for i, arch in enumerate(pools):
        told(sampler, arch, float(i))
    assert sampler._logits["op"].any()
    assert not sampler._logits["kernel"].any()


@pytest.mark.parametrize("k", [0, 1, 2, 3, None])
def test_chances_and_draws_are_those_of_the_enumerated_sets(k: int | None) -> None:
    logits = np.array([0.3, -1.0, 0.8])
    sets = [np.array(bits) for bits in np.ndindex(2, 2, 2) if k is None or sum(bits) == k]
    weights = np.exp([logits @ bits for bits in sets])
    expected = sum(w * bits for w, bits in zip(weights / weights.sum(), sets, strict=True))
    assert chances(logits, k) == pytest.approx(expected)
    rng = np.random.default_rng(0)
    drawn = np.array([draw(logits, k, rng) for _ in range(4000)])
    if k is not None:
        assert set(drawn.sum(1)) == {k}
    # six standard deviations of a share of 4000: false alarm below 1e-8
    assert np.abs(drawn.mean(0) - expected).max() < 6 * 0.5 / math.sqrt(4000)


@pytest.mark.parametrize("k", [1, 2, None])
def test_the_entropy_gradient_is_the_entropys(k: int | None) -> None:
    def entropy(logits: Any) -> float:
        sets = [bits for bits in np.ndindex(2, 2, 2, 2) if k is None or sum(bits) == k]
        weights = np.exp([logits @ np.array(bits) for bits in sets])
        shares = weights / weights.sum()
        return -float(shares @ np.log(shares))

    logits = np.array([0.5, -0.2, 1.1, 0.0])
    steps = 1e-5 * np.eye(4)
    slopes = [(entropy(logits + step) - entropy(logits - step)) / 2e-5 for step in steps]
    assert entropy_gradient(logits, k) == pytest.approx(slopes, abs=1e-6)


@pytest.mark.parametrize(
    "options", [{"learning_rate": 0.0}, {"baseline_decay": 1.0}, {"entropy": -1.0}]
)
def test_reinforce_refuses_numbers_that_do_not_fit(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected learning_rate > 0"):
        Reinforce(PLANE, seed=0, **options)


# --- Optuna's -------------------------------------------------------------------------------------


def study_of(sampler: TPE | NSGA2) -> optuna.Study:
    """Return the study behind a sampler."""
    inner = sampler._sampler
    assert isinstance(inner, OptunaSampler)
    study = inner._study
    assert isinstance(study, optuna.Study)
    return study


def complete(sampler: TPE | NSGA2) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that the study learnt from."""
    return study_of(sampler).get_trials(states=[optuna.trial.TrialState.COMPLETE])


def meaning(params: dict[str, int]) -> dict[str, Any]:
    """Read the parameters of a trial in ``tree()``."""
    bits = tuple(i for i in range(8) if params[f"{i}@taps"])
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    found: dict[str, Any] = {"inputs": pairs[params["=inputs"]], "taps": bits}
    found["op"] = ("conv", "pool")[params["=op"]]
    if found["op"] == "conv":
        found["kernel"] = (3, 5, 7)[params["=kernel"]]
    return found


@pytest.mark.parametrize("kind", [TPE, NSGA2])
def test_the_study_learns_what_was_evaluated(kind: type[TPE | NSGA2]) -> None:
    """Also where a suggestion was repaired, repeated, or nobody's."""
    space = tree()
    sampler = kind(space, seed=0)
    rng = np.random.default_rng(0)
    expected: list[tuple[Any, float]] = []
    for i in range(60):
        arch = space.sample(rng) if i % 5 == 0 else sampler.ask()
        expected.append((arch, float(i)))
        told(sampler, arch, float(i))
    trials = sorted(complete(sampler), key=lambda trial: trial.values[0])
    assert [(meaning(trial.params), trial.values[0]) for trial in trials] == expected
    reached = [f"={label}" for label in ("op", "kernel", "inputs")]
    if kind is TPE:  # defined by run: what is not reached is no parameter
        for trial in trials:
            assert ("=kernel" in trial.params) == (meaning(trial.params)["op"] == "conv")
    else:  # genes
        assert all(name in trial.params for trial in trials for name in reached)


@pytest.mark.parametrize("kind", [TPE, NSGA2])
def test_a_failure_is_told_to_the_study_and_a_strangers_is_not(kind: type[TPE | NSGA2]) -> None:
    sampler = kind(PLANE, seed=0)
    arch = sampler.ask()
    sampler.tell(Trial.failed(arch, "no memory"))
    stranger = Arch({"x": (int(str(arch["x"])) + 1) % 5, "y": 0})
    sampler.tell(Trial.failed(stranger, "no memory"))
    assert [trial.state.name for trial in study_of(sampler).trials] == ["FAIL"]


@pytest.mark.parametrize("kind", [TPE, NSGA2])
def test_optunas_own_logging_is_left_as_it_was(
    kind: type[TPE | NSGA2], capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    before = optuna.logging.get_verbosity()  # whatever a test before this one in the process left
    request.addfinalizer(lambda: optuna.logging.set_verbosity(before))
    optuna.logging.set_verbosity(logging.INFO)
    sampler = kind(tree(), seed=0)
    for i in range(15):
        told(sampler, sampler.ask(), float(i))
    assert optuna.logging.get_verbosity() == logging.INFO
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (TPE, {"startup": 0}),
        (TPE, {"candidates": 0}),
        (NSGA2, {"population": 1}),
        (NSGA2, {"mutation_prob": -0.5}),
        (NSGA2, {"crossover_prob": 2.0}),
    ],
)
def test_optunas_samplers_refuse_numbers_that_do_not_fit(
    kind: type[TPE | NSGA2], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        kind(PLANE, seed=0, **options)


# --- predictor ------------------------------------------------------------------------------------


def test_the_kernel_is_quadratic_in_the_share_of_equal_decisions() -> None:
    assert kernel(np.array([0.0, 0.5, 1.0])) == pytest.approx([0.0, 0.325, 1.0])


def test_mean_and_deviation_of_one_known_point() -> None:
    """k = 0.325 for half the decisions: mean k z / 1.1, variance 1 - k^2 / 1.1."""
    k = kernel(np.array([1.0, 0.5, 0.0]))
    mean, upper = posterior_bounds(np.eye(1), k[:, None], np.array([[2.0]]), noise=0.1)
    assert mean[:, 0] == pytest.approx(2 * k / 1.1, abs=1e-8)
    assert upper[:, 0] == pytest.approx(2 * k / 1.1 + np.sqrt(1 - k**2 / 1.1), abs=1e-8)


def test_what_is_in_flight_lowers_the_deviation_and_leaves_the_mean() -> None:
    _, upper = posterior_bounds(np.eye(2), np.eye(2), np.array([[2.0]]), noise=0.1)
    deviation = math.sqrt(1 - 1 / 1.1)
    assert upper[:, 0] == pytest.approx([2 / 1.1 + deviation, deviation], abs=1e-8)


def test_hypervolume_improvement_by_hand() -> None:
    """Front (3, 1), (1, 2) above the reference (0.9, 0.9): an area of 2.1 x 0.1 + 0.1 x 1."""
    known = np.array([[3.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    candidates = np.array([[2.0, 1.5], [3.0, 2.0], [4.0, 0.0], [2.9, 1.9]])
    # of those that no other candidate beats: 2.1 x 1.1 - 0.31; outside of the reference: nothing
    assert improvement(candidates, known).tolist() == [-1.0, 2.0, 0.0, -1.0]


def test_the_forest_trusts_what_it_saw_often() -> None:
    rng = np.random.default_rng(0)
    known = rng.integers(2, size=(60, 4)).astype(float)
    target = known[:, :1]
    mean, upper = forest_bounds(known, target, np.eye(4), seed=0)
    assert (mean <= upper).all()
    assert upper[0, 0] == 1.0
    assert upper[1:, 0].tolist() == [0.0, 0.0, 0.0]
    assert forest_bounds(known, target, np.eye(4), seed=0)[1].tolist() == upper.tolist()


def test_a_forest_may_be_the_model() -> None:
    def run() -> list[Arch]:
        sampler = Predictor(PLANE, seed=0, model="forest")
        return [told(sampler, sampler.ask(), 0.0) for _ in range(14)]

    assert run() == run()
    assert len(set(run())) == 14
    with pytest.raises(
        ValueError, match="expected model 'quadratic', 'forest' or 'mlp', got 'trees'"
    ):
        Predictor(PLANE, seed=0, model="trees")  # type: ignore[arg-type]


def test_a_design_holds_every_option_equally_often() -> None:
    space = ArchSpace.of(a=range(6), b=range(3), c=range(4))
    sampler = Predictor(space, seed=0)
    assert sampler.startup is not None
    design = [sampler.ask() for _ in range(sampler.startup)]
    assert 10 <= len(design) <= 12  # two of each of six; equal points are asked once
    full = [sampler._codes.decode(row) for row in Predictor(space, seed=0)._designs.draw()]
    assert [sum(arch["a"] == i for arch in full) for i in range(6)] == [2] * 6
    assert [sum(arch["b"] == i for arch in full) for i in range(3)] == [4] * 3
    assert [sum(arch["c"] == i for arch in full) for i in range(4)] == [3] * 4


def test_an_episode_ends_when_nothing_gets_better_and_the_next_begins_far_away() -> None:
    space = ArchSpace.of(**{f"c{i}": range(3) for i in range(12)})  # 24 steps: patience 36
    sampler = Predictor(space, seed=0)
    peak = told(sampler, sampler.ask(), 1.0)
    for _ in range(35):
        told(sampler, sampler.ask(), 0.0)
    assert len(sampler._peaks) == 0
    told(sampler, sampler.ask(), 0.0)
    assert [sampler._codes.decode(row) for row in sampler._peaks] == [peak]
    fresh = [sampler.ask() for _ in range(10)]
    nearest = sorted(distance(peak, arch) for arch in fresh)[:5]
    # twelve choices of three agree in four on average; nearest halves of thirty designs compete
    assert sum(nearest) / 5 > 7
    for arch in fresh:
        told(sampler, arch, 0.0)
    before = len(sampler._episode.members)
    for _ in range(6):  # every second query is chosen by a model of everything, for no episode
        told(sampler, sampler.ask(), 0.0)
    assert len(sampler._episode.members) == before + 3


def test_what_was_in_flight_when_it_got_better_is_no_stagnation() -> None:
    space = ArchSpace.of(**{f"c{i}": range(3) for i in range(12)})  # 24 steps: patience 36
    sampler = Predictor(space, seed=0)
    first, *others = [sampler.ask() for _ in range(8)]
    for arch in (first, *others):
        told(sampler, arch, float(arch == first))
    for _ in range(35):
        told(sampler, sampler.ask(), 0.0)
    assert not sampler._peaks
    told(sampler, sampler.ask(), 0.0)
    assert [sampler._codes.decode(row) for row in sampler._peaks] == [first]


def test_one_objective_restarts_and_several_do_not() -> None:
    sampler = Predictor(PLANE, seed=0, objectives=("a", "b"))
    for _ in range(25):
        arch = sampler.ask()
        sampler.tell(Trial.scored_as(arch, [0.0, 0.0]))
    assert not sampler._peaks


# --- several scores -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nsga2", "predictor"])
def test_the_whole_front_is_found(name: str) -> None:
    """On 4^5 architectures whose digits' sum and number of zeros are at odds.

    The front has one point per number of zeros. The last one, all zeros, adds no area; the first
    is a single architecture, which 120 random ones hold with probability 0.12.
    """
    space = ArchSpace.of(**{f"c{i}": range(4) for i in range(5)})

    def scores(arch: Arch) -> list[float]:
        digits = [int(str(value)) for value in arch.values()]
        return [float(sum(digits)), float(digits.count(0))]

    def run() -> list[list[float]]:
        sampler = SAMPLERS[name](space, seed=0, objectives=("sum", "zeros"))
        found = []
        for _ in range(120):
            arch = sampler.ask()
            found.append(scores(arch))
            sampler.tell(Trial.scored_as(arch, found[-1]))
        return found

    found = run()
    front = {tuple(point) for point in np.array(found)[pareto_mask(np.array(found))].tolist()}
    assert front >= {(15.0 - 3 * zeros, float(zeros)) for zeros in range(5)}
    assert run() == found


def test_nsga2_sees_the_true_scores() -> None:
    sampler = NSGA2(PLANE, seed=0, objectives=("accuracy", "latency"))
    arch = sampler.ask()
    sampler.tell(Trial.scored_as(arch, [0.5, -3.0]))
    assert [trial.values for trial in complete(sampler)] == [[0.5, -3.0]]
    assert [d.name for d in study_of(sampler).directions] == ["MAXIMIZE", "MAXIMIZE"]
