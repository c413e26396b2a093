"""Our samplers inside other people's studies: as a searcher of Tune and a sampler of Optuna."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, IntDistribution
from ray import cloudpickle, tune
from ray.tune.search import ConcurrencyLimiter, Searcher

import raynas
from raynas.cluster import TuneSearcher
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice
from raynas.core.errors import InvalidSpace, UnknownName
from raynas.core.objectives import MissingObjective
from raynas.core.sampler import SAMPLERS
from raynas.setup.optuna_study_sampler import optuna_sampler

SEVERAL = ["nsga2", "predictor"]
MIXED: dict[str, list[Any]] = {
    "kind": ["a", "b", None],
    "depth": [1, 2, 3, 4],
    "rate": [0.0, 0.25, 0.5, 0.75, 1.0],
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(level)


# --- a sampler of Optuna --------------------------------------------------------------------------


def mixed(trial: Any) -> float:
    kind = trial.suggest_categorical("kind", MIXED["kind"])
    depth = trial.suggest_int("depth", 1, 4)
    rate = trial.suggest_float("rate", 0, 1, step=0.25)
    return float((kind == "b") + depth - rate)


def studied(sampler: Any, objective: Any = mixed, trials: int = 12, **given: Any) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, **{"direction": "maximize", **given})
    study.optimize(objective, n_trials=trials)
    return study


def params(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


def distinct(configs: Any) -> int:
    return len({str(sorted(config.items(), key=str)) for config in configs})


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_sampler_decides_a_study(name: str) -> None:
    first = params(studied(optuna_sampler(name, seed=3)))
    assert all(config[key] in MIXED[key] for config in first for key in MIXED)
    assert distinct(first) == len(first) == 12, "two are the same in 68% of runs at random"
    assert params(studied(optuna_sampler(name, seed=3))) == first
    assert params(studied(optuna_sampler(name, seed=4))) != first


def test_evolution_finds_more_than_random_search() -> None:
    """Were they alike, evolution would win all of eight in 1 of 256 suites."""

    def objective(trial: Any) -> float:
        return -float(sum((trial.suggest_int(name, 0, 39) - 17) ** 2 for name in "abc"))

    def best(name: str, seed: int, **options: Any) -> float:
        return studied(optuna_sampler(name, seed=seed, **options), objective, 100).best_value

    small = {"population": 10, "tournament": 5}
    wins = [
        best("regularized_evolution", seed, **small) > best("random", seed) for seed in range(8)
    ]
    assert all(wins)


def test_a_study_that_minimises_is_that_of_the_negative_maximised() -> None:
    def cost(trial: Any) -> float:
        return -mixed(trial)

    sampler = {"seed": 2, "starts": 3}
    maximised = params(studied(optuna_sampler("local_search", **sampler), mixed, 30))
    assert params(studied(optuna_sampler("local_search", **sampler), cost, 30)) != maximised
    minimised = studied(optuna_sampler("local_search", **sampler), cost, 30, direction="minimize")
    assert params(minimised) == maximised


def test_real_numbers_are_drawn_at_random_and_said_once() -> None:
    def objective(trial: Any) -> float:
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        many = trial.suggest_int("many", 0, 10**6)
        return float(mixed_without_rate(trial) + rate + many)

    def mixed_without_rate(trial: Any) -> int:
        trial.suggest_categorical("fixed", ["only"])
        return int(trial.suggest_int("depth", 1, 64, log=True))

    with pytest.warns(UserWarning, match="drawn at random") as said:
        study = studied(optuna_sampler("random"), objective, 20)
    assert len(said) == 1
    assert "'rate' is drawn at random: random decides" in str(said[0].message)
    assert len({trial.params["depth"] for trial in study.trials}) == 20
    assert len({trial.params["rate"] for trial in study.trials}) == 20


def test_a_study_with_real_numbers_goes_on_when_all_else_was_tried() -> None:
    def objective(trial: Any) -> float:
        return float(trial.suggest_int("depth", 1, 3) + trial.suggest_float("rate", 0, 1))

    with pytest.warns(UserWarning, match=r"drawn at random") as said:
        study = studied(optuna_sampler("tpe"), objective, 12)
    texts = [str(warning.message) for warning in said]
    assert ["'rate' is drawn" in text for text in texts] == [True, False]
    assert "tpe has proposed all 3 combinations of depth" in texts[1]
    assert {trial.params["depth"] for trial in study.trials[:3]} == {1, 2, 3}
    assert len(study.trials) == 12


def test_parameters_that_some_trials_have_alone_are_drawn_at_random() -> None:
    def objective(trial: Any) -> float:
        width = trial.suggest_int("width", 1, 30)
        if trial.suggest_categorical("op", ["conv", "pool"]) == "conv":
            return float(width + trial.suggest_int("kernel", 1, 5))
        return float(width)

    study = studied(optuna_sampler("regularized_evolution", population=5), objective, 30)
    kernels = [trial.params.get("kernel") for trial in study.trials]
    assert len(study.trials) == 30
    assert {None} < set(kernels) <= {None, *range(1, 6)}
    assert distinct([{k: t.params[k] for k in ("op", "width")} for t in study.trials]) >= 29
    assert study.best_value >= 28


@pytest.mark.parametrize("name", SEVERAL)
def test_several_objectives(name: str) -> None:
    def objective(trial: Any) -> tuple[float, float]:
        x, y = trial.suggest_int("x", 0, 9), trial.suggest_int("y", 0, 9)
        return float(x + y), float(abs(x - 3))

    def turned(trial: Any) -> tuple[float, float]:
        first, second = objective(trial)
        return -first, -second

    given = {"direction": None, "directions": ["maximize", "minimize"]}
    study = studied(optuna_sampler(name, seed=1), objective, 40, **given)
    assert distinct(params(study)) == 40
    other = {"direction": None, "directions": ["minimize", "maximize"]}
    assert params(studied(optuna_sampler(name, seed=1), turned, 40, **other)) == params(study)
    assert params(studied(optuna_sampler(name, seed=1), turned, 40, **given)) != params(study)
    with pytest.raises(ValueError, match="optimises one objective, got values_0, values_1"):
        studied(optuna_sampler("regularized_evolution"), objective, 1, **given)


@pytest.mark.parametrize("name", ["grid", "regularized_evolution", "tpe"])
def test_a_study_ends_where_all_was_tried_whatever_came_of_it(name: str) -> None:
    def objective(trial: Any) -> float:
        x, y = trial.suggest_int("x", 0, 3), trial.suggest_categorical("y", ["a", "b"])
        if x == 1:
            raise optuna.TrialPruned
        if (x, y) == (2, "a"):
            raise RuntimeError("no")
        return float(x)

    study = optuna.create_study(sampler=optuna_sampler(name), direction="maximize")
    study.enqueue_trial({"x": 3, "y": "a"})
    study.optimize(objective, n_trials=1)
    study.enqueue_trial({"x": 0, "y": "b"})
    study.enqueue_trial({"x": 1})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study.optimize(objective, n_trials=100, catch=RuntimeError)
    assert distinct(params(study)) == len(study.trials) == 8


def test_a_loop_of_ones_own_gets_new_ones_and_then_random_ones() -> None:
    study = optuna.create_study(sampler=optuna_sampler("random"))
    domains: dict[str, BaseDistribution] = {"x": IntDistribution(0, 4)}
    study.tell(study.ask(domains), 0.0)
    flying = [study.ask(domains) for _ in range(4)]
    assert distinct([*params(study)]) == 5
    with pytest.warns(UserWarning, match="random has proposed all 5 combinations of x"):
        more = study.ask(domains)
    for trial in [*flying, more]:
        study.tell(trial, 1.0)
    assert len(study.trials) == 6


def test_two_processes_share_a_study_and_one_goes_on_after_another(tmp_path: Path) -> None:
    file = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    )
    study = studied(optuna_sampler("random"), trials=6, storage=file, study_name="shared")
    domains = study.trials[0].distributions
    pickled = pickle.loads(pickle.dumps(study.sampler))
    other = optuna.load_study(study_name="shared", storage=file, sampler=pickled)
    third = optuna.load_study(study_name="shared", storage=file, sampler=optuna_sampler("random"))
    for _ in range(5):
        for process in (study, other, third):
            process.ask(domains)
    assert distinct(params(study)) == len(study.trials) == 21


def test_threads_share_a_sampler() -> None:
    study = optuna.create_study(sampler=optuna_sampler("regularized_evolution", population=5))
    study.optimize(mixed, n_trials=24, n_jobs=2)
    assert len(study.trials) == 24
    assert distinct(params(study)) >= 22, "but for those that began before one had ended"


def test_one_sampler_serves_one_study_after_another() -> None:
    sampler = optuna_sampler("grid")
    for high in (2, 3):
        study = studied(sampler, lambda trial, high=high: trial.suggest_int("x", 0, high), 50)
        assert len(study.trials) == high + 1


def test_what_is_wrong_is_said_before_a_study_begins() -> None:
    with pytest.raises(UnknownName, match="did you mean 'regularized_evolution'"):
        optuna_sampler("regularised_evolution")
    with pytest.raises(ValueError, match="did you mean 'population'"):
        optuna_sampler("regularized_evolution", populaton=3)
    with pytest.raises(ValueError, match="spos trains a supernet"):
        optuna_sampler("spos")
    with pytest.raises(ValueError, match="seed: expected at least 0"):
        optuna_sampler("random", seed=-1)


# --- a searcher of Tune ---------------------------------------------------------------------------

SPACE = {"kind": tune.choice(["a", "b"]), "model": {"depth": tune.randint(1, 4), "kept": 7}}


def searcher(name: str, space: Any = None, **given: Any) -> TuneSearcher:
    given = {"metric": "score", "mode": "max", **given}
    return TuneSearcher(name, SPACE if space is None else space, **given)


def score(config: dict[str, Any]) -> float:
    return float((config["kind"] == "b") + config["model"]["depth"])


def play(algo: Any, first: int, last: int, seed: int = 0) -> list[Any]:
    """Ask and tell as Tune does, three at once, in any order; return the configs."""
    rng, flying, seen = random.Random(seed), {}, []
    for number in range(first, last):
        config = algo.suggest(f"t{number}")
        if config == Searcher.FINISHED:
            break
        seen.append(config)
        flying[f"t{number}"] = config
        if len(flying) == 3:
            trial = rng.choice(sorted(flying))
            algo.on_trial_complete(trial, {"score": score(flying.pop(trial))})
    for trial, config in flying.items():
        algo.on_trial_complete(trial, {"score": score(config)})
    return seen


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_sampler_proposes_configs_until_none_is_left(name: str) -> None:
    configs = play(searcher(name), 0, 50)
    assert len({str(config) for config in configs}) == len(configs) == 6
    assert all(config["kind"] in "ab" and config["model"]["kept"] == 7 for config in configs)
    assert {config["model"]["depth"] for config in configs} == {1, 2, 3}
    assert play(searcher(name), 0, 50) == configs
    others = [play(searcher(name, seed=seed), 0, 50) for seed in range(1, 9)]
    assert name == "grid" or any(other != configs for other in others)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_saved_searcher_goes_on_as_if_nobody_had_stopped(name: str, tmp_path: Path) -> None:
    space = {"kind": tune.choice(["a", "b"]), "model": {"depth": tune.randint(0, 20)}}

    def begun() -> TuneSearcher:
        algo = searcher(name, space)
        play(algo, 0, 7)
        for trial in ("x", "y"):
            algo.suggest(trial)
        return algo

    def rest(algo: Any) -> list[Any]:
        algo.on_trial_complete("y", {"score": 3.0})
        algo.on_trial_complete("never heard of", {"score": 3.0})
        algo.on_trial_complete("x", error=True)
        return play(algo, 10, 20)

    goes_on = rest(begun())
    file = str(tmp_path / "state.pkl")
    begun().save(file)
    restored = searcher(name, space)
    restored.restore(file)
    assert rest(restored) == goes_on
    assert rest(cloudpickle.loads(cloudpickle.dumps(begun()))) == goes_on


def test_evolution_learns_from_what_is_told() -> None:
    space = {name: tune.randint(0, 30) for name in "abc"}
    algo = searcher("regularized_evolution", space, options={"population": 8}, mode="min")
    sums = []
    for number in range(80):
        config = algo.suggest(str(number))
        sums.append(sum(config.values()))
        algo.on_trial_complete(str(number), {"score": sums[-1]})
    # at random 40 sums of three lie 13.7 / 40**0.5 * 2**0.5 = 3.1 apart: less than one in 10**5
    assert np.mean(sums[:8]) - np.mean(sums[40:]) > 15


def test_failures_are_remembered_and_teach_nothing() -> None:
    algo = searcher("local_search")
    told: list[tuple[Any, bool]] = [({"score": float("nan")}, False), ({"score": "high"}, False)]
    for number, (result, error) in enumerate([*told, (None, False), ({}, True)]):
        algo.suggest(str(number))
        algo.on_trial_complete(str(number), result, error)
    assert algo.suggest("5") != Searcher.FINISHED
    with pytest.raises(MissingObjective, match="no metric 'score'; did you mean 'scores'"):
        algo.on_trial_complete("5", {"scores": 1.0})
    algo.on_trial_complete("5", {"score": 1.0})
    assert algo.suggest("6") != Searcher.FINISHED
    assert algo.suggest("7") == Searcher.FINISHED, "nothing is left, though one is in flight"


def test_points_from_elsewhere_are_learned_from_and_not_proposed() -> None:
    algo = searcher("grid")
    algo.add_evaluated_point({"kind": "b", "model": {"depth": 3, "kept": 7}}, 4.0)
    algo.add_evaluated_point({"kind": "a", "model": {"depth": 2}}, 0.0, error=True)
    configs = play(algo, 0, 50)
    assert len(configs) == 4
    assert {"kind": "b", "model": {"depth": 3, "kept": 7}} not in configs
    for wrong, said in (
        ({"kind": "c", "model": {"depth": 3}}, "'kind' is 'c', not one of its values"),
        ({"kind": "b"}, "a config has no 'model/depth'"),
    ):
        with pytest.raises(ValueError, match=said):
            algo.add_evaluated_point(wrong, 1.0)


def test_a_limiter_and_an_arch_space_with_conditions() -> None:
    kernel = ArchSpace((Choice("conv/kernel", (3, 5)),))
    space = ArchSpace((Choice("op", ("conv", "pool"), {"conv": kernel}), Choice("w", ((1, 2), 3))))
    algo: Any = ConcurrencyLimiter(searcher("random", space), max_concurrent=2)
    configs = [algo.suggest("0"), algo.suggest("1")]
    assert algo.suggest("2") is None
    for number in range(2, 6):
        algo.on_trial_complete(str(number - 2), {"score": 1.0})
        configs.append(algo.suggest(str(number)))
    assert {str(sorted(config.items())) for config in configs} == {
        str(sorted(arch.items())) for arch in space
    }
    algo.on_trial_complete("4", {"score": 1.0})
    assert algo.suggest("6") == Searcher.FINISHED


def test_several_metrics() -> None:
    algo = searcher("nsga2", metric=["score", "cost"], mode=["max", "min"])
    for number in range(6):
        algo.suggest(str(number))
        algo.on_trial_complete(str(number), {"score": 1.0, "cost": number})
    assert algo.suggest("6") == Searcher.FINISHED
    with pytest.raises(ValueError, match="tpe optimises one objective, got score, cost: use nsga2"):
        searcher("tpe", metric=["score", "cost"])
    with pytest.raises(ValueError, match="mode: expected one, or one for each"):
        searcher("nsga2", metric=["score", "cost"], mode=["max"])


def test_all_that_can_be_listed_is_a_domain() -> None:
    class Relu: ...

    space = {
        "act": tune.choice([Relu, dict]),
        "list": tune.grid_search([[1, 2], [3]]),
        "int": tune.randint(2, 4),
        "qint": tune.qrandint(8, 24, 8),
        "qlog": tune.qlograndint(4, 13, 4),
        "q": tune.quniform(0.1, 0.3, 0.1),
        "twice": tune.choice(["a", "a", "b"]),
        "mix": tune.choice([1, True, "1", None]),
        "deep": [{"x": tune.choice([1, 2])}, "kept"],
    }
    algo = searcher("random", space)
    configs = [algo.suggest(str(number)) for number in range(60)]
    seen = {key: {str(config[key]) for config in configs} for key in space}
    assert {config["act"] for config in configs} == {Relu, dict}
    assert all(config["list"] in ([1, 2], [3]) for config in configs)
    assert seen["int"] == {"2", "3"}
    assert seen["qint"] == {"8", "16", "24"}
    assert seen["qlog"] == {"4", "8", "12"}
    assert {round(config["q"], 9) for config in configs} == {0.1, 0.2, 0.3}
    assert seen["twice"] == {"a", "b"}
    assert seen["mix"] == {"1", "True", "None"}
    assert {config["deep"][0]["x"] for config in configs} == {1, 2}
    assert all(config["deep"][1] == "kept" for config in configs)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"model": {"rate": tune.uniform(0, 1)}}, "'model/rate': expected tune.choice, .*, got"),
        ({"rate": tune.loguniform(1e-4, 1)}, "'rate': expected tune.choice"),
        ({"rate": tune.qrandn(0, 1, 0.5)}, "'rate': expected tune.choice"),
        ({"x": tune.sample_from(lambda _: 1)}, "'x': expected tune.choice"),
        ({"x": tune.randint(0, 10**6)}, "'x' has 1000000 values, expected 1 to 1024"),
        ({"x": tune.quniform(0, 10**6, 0.1)}, "'x' has .* values, expected 1 to 1024"),
        ({"x": tune.choice([{"y": tune.randint(0, 2)}])}, "'x': an option has domains"),
        ({"a/b": tune.randint(0, 2), "a": {"b": tune.randint(0, 2)}}, "two domains are called"),
        ({"x": 1}, "somewhere in it, got {'x': 1}"),
    ],
)
def test_what_cannot_be_listed_is_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        searcher("random", space)


def test_what_is_wrong_with_a_searcher_is_said_when_it_is_made() -> None:
    with pytest.raises(UnknownName, match="did you mean 'random'"):
        searcher("randm")
    with pytest.raises(ValueError, match="spos trains a supernet"):
        searcher("spos")
    with pytest.raises(ValueError, match="did you mean 'population'"):
        searcher("regularized_evolution", options={"populaton": 3})
    with pytest.raises(ValueError, match="1 <= tournament <= population"):
        searcher("regularized_evolution", options={"population": 0})
    with pytest.raises(TypeError, match="a model's is its arch_space"):
        searcher("random", raynas.space("mlp"))
    with pytest.raises(ValueError, match="expected 'max' or 'min', got 'up'"):
        searcher("random", mode="up")
    with pytest.raises(ValueError, match="random has no space"):
        TuneSearcher("random", metric="score", mode="max").suggest("0")
    with pytest.raises(ValueError, match="random has no metric and mode"):
        TuneSearcher("random", SPACE).suggest("0")


@pytest.mark.usefixtures("local_ray")
def test_a_run_of_tune_takes_space_and_metric_from_its_own_settings(tmp_path: Path) -> None:
    def trainable(config: dict[str, Any]) -> dict[str, float]:
        return {"score": score(config)}

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"kind": tune.choice(["a", "b"]), "model": {"depth": tune.randint(1, 3)}},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            search_alg=ConcurrencyLimiter(TuneSearcher("grid"), max_concurrent=1),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    results: Any = tuner.fit()
    assert len({str(result.config) for result in results}) == len(results) == 4
    assert results.get_best_result().config == {"kind": "b", "model": {"depth": 2}}
