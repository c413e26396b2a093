"""Configuration files: one schema, steps that follow each other, errors that name the key."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import raynas
from raynas.cli import main
from raynas.core.pipeline import RetrainStep, SearchStep, SupernetStep, pipeline_config
from raynas.results.result import Result
from raynas.results.trained import Trained

BATCH = {"batch_size": 250}  # four steps an epoch
TINY: dict[str, Any] = {
    "space": "ofa_mobilenet_v3",
    "space_options": {
        "width": 0.1,
        "depths": [1, 2],
        "kernels": [3],
        "resolutions": [8, 12],
        "dropout": 0.0,
    },
    "data": "digits",
    "seed": 1,
    "ray": {"inline": True},
    "steps": [
        {"supernet": {"algo": "progressive_shrinking", "epochs": 500, "options": BATCH}},
        {"search": {"algo": "random", "trials": 300, "constraints": ["macs<60e3"]}},
        {"retrain": {"epochs": 100, "inherit": True, "options": BATCH}},
    ],
    "smoke": {"supernet.epochs": 5, "search.trials": 3, "retrain.epochs": 1},
}


def written(tmp_path: Path, config: Any, name: str = "config.yaml") -> str:
    file = tmp_path / name
    file.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return str(file)


@pytest.mark.parametrize(
    ("step", "function"),
    [
        (SupernetStep, raynas.train_supernet),
        (SearchStep, raynas.search),
        (RetrainStep, raynas.retrain),
    ],
)
def test_a_step_takes_what_its_function_takes(step: Any, function: Any) -> None:
    """But for objects and functions, which no file holds, and what the pipeline itself says."""
    taken = {*inspect.signature(function).parameters}
    others = {"loss", "metrics", "out", "resume", "progress", "what"}
    others.add("construct")  # which stands among space_options
    names = {name.removesuffix("_options") if name.startswith("task") else name
             for name in step.model_fields}  # fmt: skip
    names = {"evaluator" if name == "evaluator_options" else name for name in names}
    assert names - {"run"} == taken - others


def test_steps_follow_each_other_and_the_resolved_file_runs_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcomes = raynas.run(
        written(tmp_path, TINY), smoke=True, sets={"search.trials": 4}, out=str(out)
    )
    supernet, result, trained = outcomes
    assert supernet == f"{out}/1-supernet/supernet"
    assert isinstance(result, Result)
    assert isinstance(trained, Trained)
    assert len(result.trials) == 4
    assert result.trials["macs"].max() < 60e3
    assert result.config.supernet is not None
    assert result.config.supernet.options == {"path": supernet}
    assert result.best is not None
    assert trained.arch == result.best.arch
    assert trained.config.settings["epochs"] == 1
    resolved = yaml.safe_load((out / "config.yaml").read_text())
    assert resolved["steps"][1]["search"]["trials"] == 4
    assert "smoke" not in resolved
    with pytest.raises(FileExistsError, match="holds another pipeline: go on with it"):
        raynas.run(str(out / "config.yaml"))
    again = raynas.run(str(out / "config.yaml"), resume=True)
    assert len(again[1].trials) == 4
    assert again[2].metrics == trained.metrics


@pytest.mark.full
def test_a_resolved_file_gives_the_same_elsewhere(tmp_path: Path) -> None:
    file, sizes = written(tmp_path, TINY), {"search.trials": 4}
    _, result, _ = raynas.run(file, smoke=True, sets=sizes, out=str(tmp_path / "out"))
    twin = raynas.run(str(tmp_path / "out" / "config.yaml"), out=str(tmp_path / "twin"))
    untimed = ["arch", "accuracy", "loss"]
    assert twin[1].trials[untimed].equals(result.trials[untimed])


def test_a_lone_step_needs_no_list(tmp_path: Path) -> None:
    config = {"search": {"space": "mlp", "data": "digits", "evaluator": "cost", "trials": 3,
                         "objectives": {"macs": "min"}, "ray": {"inline": True}}}  # fmt: skip
    (result,) = raynas.run(config, out=str(tmp_path / "run"))
    assert len(raynas.load(str(tmp_path / "run")).trials) == len(result.trials) == 3
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_an_architecture_is_retrained_without_a_search(tmp_path: Path) -> None:
    arch = raynas.space("mlp", num_classes=10).arch_space.sample(np.random.default_rng(0))
    config = {
        "ray": {"inline": True},
        "retrain": {"space": "mlp", "data": "digits", "arch": dict(arch), "epochs": 1},
    }
    (trained,) = raynas.run(config, out=str(tmp_path / "run"))
    assert trained.arch == arch
    with pytest.raises(ValueError, match=r"steps\.0\.retrain: retrain: name a run or an arch"):
        raynas.run({"retrain": {"space": "mlp"}}, out=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"search": {"trails": 3}}, r"no setting is named 'search.trails'; did you mean 'trials'"),
        (
            {"steps": [{"search": {"trials": "many"}}]},
            r"steps.0.search.trials: input should be a valid integer.*, got 'many'",
        ),
        ({"steps": [{"serch": {}}]}, "no setting is named 'steps.0.serch'; did you mean 'search'"),
        ({"steps": []}, "steps: list should have at least 1 item"),
        ({"space": "mlp"}, "steps: field required"),
        ({"serch": {"space": "mlp"}}, "no setting is named 'serch'; did you mean 'search'"),
        ({"stepz": [], "search": {}}, "no setting is named 'stepz'; did you mean 'steps'"),
        (
            {"steps": [{"search": {}, "retrain": {}}]},
            "steps.0: a step is one of supernet, search, retrain, got search and retrain",
        ),
        (
            {"search": {"ray": {"worker": 2}}},
            "no setting is named 'search.ray.worker'; did you mean 'workers'",
        ),
        ({"search": {"objectives": {"macs": "least"}}}, "search.objectives.macs: .*'max' or 'min'"),
        (3, "expected keys and values, got 3"),
        ("search: [", r"this is no configuration in YAML: .* line 1"),
        ("search: !!python/object/apply:os.system ['true']", "no configuration in YAML: .*tag"),
        ("search: *nothing", "no configuration in YAML: .*undefined alias"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_by_its_key(
    config: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, config)
    with pytest.raises(ValueError, match=says) as told:
        raynas.run(file, out=str(tmp_path / "run"))
    assert "\n" not in str(told.value)
    assert main(["run", file, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ({"search.trails": 3}, "no setting is named 'steps.1.search.trails'; did you mean"),
        ({"steps.7.search.trials": 3}, "steps.7: expected a number from 0 to 2, got '7'"),
        ({"seed.x": 3}, "seed: 1 has no keys|seed is 1, which has no keys"),
        ({"search.trials": -3}, "steps.1.search.trials: .*greater than 0, got -3"),
    ],
)
def test_what_is_wrong_with_a_set_value_is_said(sets: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pipeline_config(TINY, sets=sets)
    twice: dict[str, Any] = {"steps": [{"search": {}}, {"search": {}}]}
    with pytest.raises(ValueError, match=r"there are 2 steps 'search'; name one by its number"):
        pipeline_config(twice, sets={"search.trials": 2})


def test_what_is_wrong_with_a_step_leaves_its_folder_free(tmp_path: Path) -> None:
    config = {"search": {"space": "mlp", "data": "digits", "algo": "evolutoin"}}
    with pytest.raises(LookupError, match=r"steps\.0\.search: no algorithm named 'evolutoin'; did"):
        raynas.run(config, out=str(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.yaml").exists()
    with pytest.raises(FileNotFoundError, match=r"there is no configuration file nowhere\.yaml"):
        raynas.run("nowhere.yaml")


@pytest.mark.parametrize(
    ("supernet", "search", "says"),
    [
        ({}, {"algo": "evolutoin"}, r"steps\.1\.search: no algorithm named 'evolutoin'; did you"),
        (
            {},
            {"algo": "EvolutionOptim", "options": {"pop_size": 4, "n_select": 5}},
            r"steps\.1\.search: expected .* selected 5 and population 4",
        ),
        ({}, {"options": {"populaton": 4}}, r"steps\.1\.search: .*did you mean 'population'"),
        ({}, {"algo": "darts", "options": {"lrr": 1}}, r"steps\.1\.search: .*no option 'lrr'"),
        (
            {},
            {"supernet": {"algo": "spos", "warm_start_step": 1}},
            r"steps\.1\.search: .*did you mean 'warm_start_steps'",
        ),
        ({"options": {"lrr": 1}}, {}, r"steps\.0\.supernet: .*no option 'lrr'"),
        ({"algo": ["spos", {"algo": "darts", "lrr": 1}]}, {}, r"steps\.0\.supernet: .*'lrr'"),
    ],
)
def test_algorithms_of_all_steps_are_judged_before_the_first_starts(
    supernet: dict[str, Any], search: dict[str, Any], says: str, tmp_path: Path
) -> None:
    steps = [{"supernet": supernet}, {"search": search}]
    config = {"space": "mlp", "data": "digits", "ray": {"inline": True}, "steps": steps}
    with pytest.raises((ValueError, LookupError), match=says):
        raynas.run(config, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_small_population_breeds_among_itself(tmp_path: Path) -> None:
    config = {
        "search": {
            "space": "mlp",
            "data": "digits",
            "algo": "EvolutionOptim",
            "options": {"pop_size": 4},
            "evaluator": "cost",
            "objectives": {"macs": "min"},
            "trials": 6,
            "ray": {"inline": True},
        }
    }
    (result,) = raynas.run(config, out=str(tmp_path / "run"))
    assert result.config.algo.options["selected"] == 4
    assert len(result.trials) == 6


def test_another_file_does_not_go_on(tmp_path: Path) -> None:
    config = {
        "ray": {"inline": True},
        "search": {"space": "mlp", "data": "digits", "evaluator": "cost", "trials": 2,
                   "objectives": {"macs": "min"}},
    }  # fmt: skip
    raynas.run(config, out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="was begun with another configuration"):
        raynas.run(config, sets={"search.trials": 5}, out=str(tmp_path / "run"), resume=True)
