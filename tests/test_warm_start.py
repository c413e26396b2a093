"""Searches that begin with the scores of an earlier run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raynas
from raynas.algorithms.predictor import Model, Predictor
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.codes import Codes
from raynas.core.constraints import Constraint
from raynas.core.feasible import Violation
from raynas.core.points import Points
from raynas.core.progress import Progress
from raynas.core.sampler import Sampler
from raynas.core.surrogate import improvement
from raynas.core.trial import Trial
from raynas.storage.tables import load_trials
from tests import test_sampler_contract as contract
from tests.elasticspace import ELASTIC, effects, elastic_space
from tests.inline import INLINE

MODELS: tuple[Model, ...] = ("quadratic", "mlp")


def evaluator(seed: int, zero: float = 0.0) -> Callable[[Arch], dict[str, float]]:
    surface = effects(seed)

    def measured(arch: Arch) -> dict[str, float]:
        return {"accuracy": zero + surface(arch), "size": float(len(arch))}

    return measured


def earlier(out: Path, seed: int = 0, trials: int = 100, **given: Any) -> str:
    """Run a random search, and return its folder."""
    given = {"evaluator": evaluator(seed), "seed": seed, **given}
    raynas.search(ELASTIC, "random", trials=trials, out=str(out), ray=INLINE, **given)
    return str(out)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> str:
    return earlier(tmp_path_factory.mktemp("warm") / "random")


def asked(sampler: Sampler, count: int, score: Callable[[Arch], float]) -> list[Arch]:
    archs = []
    for _ in range(count):
        archs.append(sampler.ask())
        sampler.tell(Trial.completed(archs[-1], score(archs[-1])))
    return archs


# --- what it is good for --------------------------------------------------------------------------


def test_a_warm_start_beats_a_cold_one(tmp_path: Path) -> None:
    """The best of ten queries, of either model, is better in 7 of 7 seeds.

    Were warm and cold starts alike, that would happen with probability 2^-7 = 0.8 % a model. The
    ten are better, too, than all sixty of the earlier run, as often by the same chance at most.
    """
    for seed in range(7):
        surface = effects(seed)
        path = earlier(tmp_path / str(seed), seed, trials=60)
        known = max(trial.objective or 0.0 for trial in load_trials(path))
        cold = max(map(surface, asked(Predictor(ELASTIC, seed=seed), 10, surface)))
        for model in MODELS:
            sampler = Predictor(ELASTIC, seed=seed, model=model, warm_start=path)
            warm = max(map(surface, asked(sampler, 10, surface)))
            assert warm > max(cold, known), (seed, model)


def test_the_best_of_the_earlier_run_comes_first(before: str) -> None:
    trials = load_trials(before)
    best = max(trials, key=lambda trial: trial.objective or 0.0)
    sampler = Predictor(ELASTIC, seed=0, warm_start=before)
    assert sampler.startup == 1
    assert sampler.ask() == best.arch


def sized(most: float) -> ArchSpace:
    """Return the elastic space with a bound on how many decisions an architecture takes."""
    limit = Violation([Constraint("size", high=most)], lambda arch: {"size": float(len(arch))})
    return replace(ELASTIC, violation=limit)


@pytest.mark.parametrize("model", MODELS)
def test_the_bounds_of_this_search_count(before: str, model: Model) -> None:
    space, surface = sized(18.0), effects(0)
    inside = [trial for trial in load_trials(before) if len(trial.arch) <= 18]
    assert 0 < len(inside) < 40
    archs = asked(Predictor(space, seed=0, model=model, warm_start=before), 12, surface)
    assert archs[0] == max(inside, key=lambda trial: trial.objective or 0.0).arch
    assert max(len(arch) for arch in archs) <= 18
    assert max(map(surface, archs)) > max(trial.objective or 0.0 for trial in inside)


@pytest.mark.parametrize("model", MODELS)
def test_where_none_of_the_earlier_run_keeps_them_its_best_are_changed(
    tmp_path: Path, model: Model
) -> None:
    path = earlier(tmp_path, trials=30, constraints={"size": (20, None)})
    assert min(len(trial.arch) for trial in load_trials(path) if trial.scored) >= 20
    sampler = Predictor(sized(17.0), seed=0, model=model, warm_start=path)
    assert sampler.startup is not None
    assert sampler.startup >= 2
    flying = [sampler.ask() for _ in range(sampler.startup + 2)]  # before anything is told
    assert max(len(arch) for arch in flying) <= 17
    surface = effects(0)
    for arch in flying:
        sampler.tell(Trial.completed(arch, surface(arch)))
    assert max(len(arch) for arch in asked(sampler, 5, surface)) <= 17


@pytest.mark.parametrize("model", MODELS)
def test_the_earlier_scores_may_be_on_another_scale(
    tmp_path: Path, before: str, model: Model
) -> None:
    """As of another supernet, all worse by 40: what was scored in both runs says by how much."""
    worse = earlier(tmp_path, evaluator=evaluator(0, zero=-40.0))
    surface = effects(0)
    same, other = (
        asked(Predictor(ELASTIC, seed=0, model=model, warm_start=path), 12, surface)
        for path in (before, worse)
    )
    assert same == other


def test_points_scored_in_both_runs_move_the_earlier_ones() -> None:
    codes = Codes(ArchSpace.of(a=range(4)))
    rows = [codes.encode({"a": a}) for a in range(4)]
    points = Points(codes, [(rows[0], (1.0,)), (rows[1], (3.0,)), (rows[2], (2.0,))])
    assert points.best_first(range(3)) == [1, 2, 0]
    points.add(rows[3], (9.0,))
    assert points.scores(range(4)).tolist() == [[1.0], [3.0], [2.0], [9.0]]
    points.add(rows[1], (13.5,))
    assert points.valid(range(5)).tolist() == [0, 2, 3, 4]
    assert points.own([0, 2, 3, 4]).tolist() == [False, False, True, True]
    assert points.scores([0, 2, 3, 4]).tolist() == [[11.5], [12.5], [9.0], [13.5]]
    points.add(rows[0], (1.5,))  # moves of 10.5 and 0.5: the median
    assert points.scores([2, 4, 5]).tolist() == [[7.5], [13.5], [1.5]]
    assert points.scores([2], moved=False).tolist() == [[2.0]]
    assert (len(points), points.earlier) == (6, 3)


def test_only_own_points_make_the_front_that_is_to_grow() -> None:
    """Reference (0.9, 0.9); the earlier (3, 3) bounds nothing, the own (1, 2) has 0.1 x 1.1."""
    known = np.array([[3.0, 3.0], [1.0, 2.0], [1.0, 1.0]])
    candidate, own = np.array([[2.0, 2.0]]), np.array([False, True, False])
    assert improvement(candidate, known, own).tolist() == pytest.approx([1.1 * 1.1 - 0.11])
    assert improvement(candidate, known, ~own).tolist() == [0.0]
    assert improvement(candidate, known, own & ~own).tolist() == pytest.approx([1.21])


def test_several_objectives_begin_warm_too(tmp_path: Path) -> None:
    goals = {"accuracy": "max", "size": "min"}
    path = earlier(tmp_path / "before", objectives=goals)
    for model in MODELS:
        result = raynas.search(
            ELASTIC,
            "predictor",
            evaluator=evaluator(0),
            objectives=goals,
            options={"model": model, "warm_start": path},
            trials=15,
            out=str(tmp_path / model),
            ray=INLINE,
        )
        reference = {"accuracy": -10.0, "size": 26.0}
        random = raynas.load(path)
        # of a hundred random ones, fifteen as good together are drawn once in millions
        assert result.hypervolume(reference) > random.hypervolume(reference)


# --- laws of samplers -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], Any]:
    """Return what makes samplers that begin with a run of the contract's spaces."""
    spaces = (*contract.SPACES.values(), contract.SMALL, contract.ONE, contract.TWINS)
    paths: dict[ArchSpace, str] = {}
    for number, space in enumerate(spaces):
        paths[space] = str(tmp_path_factory.mktemp("laws") / str(number))
        raynas.search(
            space,
            "random",
            evaluator=lambda arch: {"accuracy": contract.score(arch)},
            trials=12,
            out=paths[space],
            ray=INLINE,
        )

    def of(model: Model) -> contract.Make:
        def make(space: ArchSpace, *, seed: int) -> Sampler:
            return Predictor(space, seed=seed, model=model, warm_start=paths[space])

        return make

    return of


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", contract.SPACES)
def test_laws_of_every_space(
    warm: Callable[[Model], contract.Make], name: str, model: Model
) -> None:
    make, space = warm(model), contract.SPACES[name]
    contract.replay_equals_never_stopping(make, space, 12)
    contract.its_first_asks_need_no_tell(make, space)
    contract.failures_and_strangers_may_be_told(make, space)


@pytest.mark.parametrize("model", MODELS)
def test_laws_of_small_spaces(warm: Callable[[Model], contract.Make], model: Model) -> None:
    make = warm(model)
    for strangers in (0, 1):
        contract.it_ends_when_all_was_proposed(make, contract.SMALL, strangers, told=True)
        contract.it_ends_when_all_was_proposed(make, contract.ONE, strangers, told=False)
    contract.isomorphic_ones_are_one(make, 3)


def cold(space: ArchSpace, *, seed: int) -> Sampler:
    return Predictor(space, seed=seed, model="mlp")


def test_laws_of_a_network_without_a_warm_start() -> None:
    space = contract.conditional()
    contract.replay_equals_never_stopping(cold, space, 33)
    contract.it_ends_when_all_was_proposed(cold, contract.SMALL, 1, told=True)


# --- through a search -----------------------------------------------------------------------------


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, text: str) -> None:
        """Keep it."""
        self.phases.append(text)


def warm_search(path: str, out: Path, trials: int = 14, **given: Any) -> raynas.Result:
    return raynas.search(
        ELASTIC,
        "predictor",
        evaluator=evaluator(0),
        options={"model": "mlp", "warm_start": path},
        trials=trials,
        out=str(out),
        ray=INLINE,
        **given,
    )


def go_on(out: Path, trials: int) -> None:
    again: dict[str, Any] = {"out": str(out), "resume": True, "evaluator": evaluator(0)}
    raynas.search(trials=trials, ray=INLINE, **again)


def told(out: Path) -> list[tuple[str, float | None, float | None]]:
    return [(t.arch.key, t.objective, t.predicted) for t in load_trials(str(out))]


def test_it_is_said_how_well_the_network_tells_the_earlier_scores(
    before: str, tmp_path: Path
) -> None:
    heard = Heard()
    result = warm_search(before, tmp_path, trials=3, progress=heard)
    (note,) = (text for text in heard.phases if text.startswith("beginning with"))
    start = f"beginning with 100 scores of {before}, fitted to 80 architectures; on 20 held out,"
    assert note.startswith(f"{start} Kendall's tau 0.")
    assert result.config.algo.options == {"model": "mlp", "warm_start": before}
    quiet = Heard()
    raynas.search(
        ELASTIC,
        evaluator=evaluator(0),
        trials=1,
        out=str(tmp_path / "other"),
        ray=INLINE,
        progress=quiet,
    )
    assert not any(text.startswith("beginning") for text in quiet.phases)


def test_going_on_is_never_having_stopped(before: str, tmp_path: Path) -> None:
    warm_search(before, tmp_path / "whole")
    warm_search(before, tmp_path / "parts", trials=6)
    go_on(tmp_path / "parts", trials=14)
    assert told(tmp_path / "parts") == told(tmp_path / "whole")


def test_an_earlier_run_that_changed_is_begun_with_as_it_is_now(tmp_path: Path) -> None:
    """The search goes on with all that it was told, and not as if it had never stopped."""
    path = earlier(tmp_path / "before", trials=40)
    warm_search(path, tmp_path / "whole", trials=14)
    warm_search(path, tmp_path / "parts", trials=6)
    earlier(tmp_path / "before", trials=140, resume=True)
    go_on(tmp_path / "parts", trials=14)
    whole, parts = told(tmp_path / "whole"), told(tmp_path / "parts")
    assert parts[:6] == whole[:6]
    assert parts[6:] != whole[6:]
    assert len({key for key, _, _ in parts}) == len(parts) == 14


def other_objectives(path: Path) -> str:
    return earlier(path, trials=3, objectives={"size": "min"})


def several_objectives(path: Path) -> str:
    return earlier(path, trials=3, objectives={"accuracy": "max", "size": "min"})


def other_labels(path: Path) -> str:
    return random_search(ArchSpace.of(resolution=[16, 24, 32]), path)


def other_options(path: Path) -> str:
    return random_search(elastic_space(kernels=(3, 5)), path)


def random_search(space: ArchSpace, path: Path) -> str:
    def measured(arch: Arch) -> dict[str, float]:
        return {"accuracy": float(str(arch["resolution"]))}

    raynas.search(space, "random", evaluator=measured, trials=3, out=str(path), ray=INLINE)
    return str(path)


def failing(arch: Arch) -> dict[str, float]:
    raise MemoryError(f"{arch} is too large")


def no_scores(path: Path) -> str:
    return earlier(path, trials=3, evaluator=failing)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda path: str(path), r"warm_start: .*run holds no run: there is no such folder"),
        (other_objectives, r"is a run with objectives size:min, and this search has accuracy:max"),
        (several_objectives, r"objectives accuracy:max, size:min, and this search has accuracy"),
        (other_labels, r"of another space: it has no decision 's0.depth'; known: resolution"),
        (
            other_options,
            r"another space: its 's0.b0.kernel' is one of \[3, 5\], and here one of \[3, 5, 7\]",
        ),
        (no_scores, r"warm_start: the run in .* has scored no architecture"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_anything_starts(
    run: Callable[[Path], str], said: str, tmp_path: Path
) -> None:
    path = run(tmp_path / "run")
    with pytest.raises(ValueError, match=said):
        warm_search(path, tmp_path / "warm")
    assert not (tmp_path / "warm").exists()


def test_other_weights_are_other_objectives(tmp_path: Path) -> None:
    goals: dict[str, Any] = {"objectives": {"accuracy": "max", "size": "min"}}
    light = {"accuracy": 1.0, "size": -0.01}
    path = earlier(tmp_path / "run", trials=3, scalarize=light, **goals)
    said = r"weights \(scalarize\) accuracy:1.0, size:-0.01, and this search has accuracy:1.0, size"
    with pytest.raises(ValueError, match=said):
        warm_search(path, tmp_path / "warm", scalarize={"accuracy": 1.0, "size": -1.0}, **goals)
    assert len(warm_search(path, tmp_path / "warm", trials=2, scalarize=light, **goals).trials) == 2


def test_a_sampler_alone_refuses_a_run_of_another_space(before: str) -> None:
    smaller = elastic_space(kernels=(3, 5))
    with pytest.raises(ValueError, match=r"warm_start: .* another space's trials: .*kernel' is 7"):
        Predictor(smaller, seed=0, warm_start=before)
    with pytest.raises(ValueError, match=r"expected 2 score\(s\) per trial .*, got 1"):
        Predictor(ELASTIC, seed=0, warm_start=before, objectives=("accuracy", "size"))


def test_an_algorithm_without_the_option_says_so(before: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'random' has no option 'warm_start'"):
        raynas.search(
            ELASTIC,
            "random",
            evaluator=evaluator(0),
            options={"warm_start": before},
            out=str(tmp_path / "run"),
        )
