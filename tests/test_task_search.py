"""Every task through a whole search: shared weights, gradients, and trainings alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import raynas
from raynas.core.nest import call
from raynas.data.split import split_of
from raynas.data.tensor_data import TensorData
from raynas.evaluators import Standalone
from raynas.setup.problem import Data
from raynas.setup.resolve_task import going_by, rebuild_task, task_spec, with_task
from raynas.supernet.calibration import recalibrate
from tests.inline import INLINE
from tests.tasknets import CASES, Case

every_case = pytest.mark.parametrize("name", CASES)
OPTIONS = {"proxyless_rl": {"warmup_epochs": 1}}
GIVEN: dict[str, Any] = {"ray": INLINE, "seed": 3}


def searched(case: Case, out: Path, **given: Any) -> raynas.Result:
    """Search, by shared weights unless something else is said."""
    defaults = {"algo": "random", "trials": 2, "epochs": 2, "supernet": {"batch_size": 16}}
    return raynas.search(
        case.model, data=case.datasets, out=str(out), **GIVEN, **{**defaults, **case.given, **given}
    )


def task_of(case: Case) -> Any:
    """Return what a search of a case learns; it goes by the search's objective."""
    given = (case.given.get(name) for name in ("task", "loss", "metrics"))
    data = with_task(Data(None, TensorData(case.datasets)), *given)
    return going_by(data, case.given.get("objectives", {})).module.task


@every_case
def test_shared_weights_score_by_the_task_s_metrics(name: str, tmp_path: Path) -> None:
    """Scores are those of the network that ``model`` returns, on the same data."""
    case = CASES[name]
    run = searched(case, tmp_path)
    trials = run.trials
    assert trials["status"].tolist() == ["completed"] * len(trials)
    assert trials[list(case.metrics)].notna().all(axis=None)
    metric, goal = task_of(case).objective
    first, direction = next(iter(run.config.objectives.items()))
    assert (first, direction) == (metric, goal)
    assert run.config.task_metric == metric
    history = run.history
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] + 0.5
    assert history["valid_loss" if metric == "loss" else metric].notna().all()
    row = trials[trials["arch"] == run.best.arch.to_json()].iloc[0]
    scores = evaluated(run.model(), case, task_of(case))
    for column in case.metrics:
        assert scores[column] == pytest.approx(row[column], rel=1e-4, abs=1e-5), column
    rescored = run.rescore(1).iloc[0]
    assert rescored[f"valid_{metric}"] == pytest.approx(scores[metric], rel=1e-4, abs=1e-5)
    assert "Data" in Path(run.report()).read_text()


def evaluated(net: torch.nn.Module, case: Case, task: Any) -> dict[str, float]:
    """Return the metrics of a network on the validation data, calibrated on all training data."""
    splits = TensorData(case.datasets).load()
    train, valid = split_of(splits.train), split_of(splits.valid)
    inputs, targets = task.examples(*train.some(range(len(train))))
    recalibrate(net, task.inputs(inputs, targets), len(train))
    inputs, targets = task.examples(*valid.some(range(len(valid))))
    state = task.state()
    with torch.no_grad():
        state.update(task.output(call(net, task.inputs(inputs, targets))), targets)
    scores: dict[str, float] = state.compute()
    return scores


@every_case
@pytest.mark.parametrize("algo", ["darts", "gdas", "proxyless_rl"])
def test_gradients_search_every_task(name: str, algo: str, tmp_path: Path) -> None:
    case, options = CASES[name], {"batch_size": 16} | OPTIONS.get(algo, {})
    run = searched(case, tmp_path, algo=algo, trials=None, supernet=None, options=options)
    assert run.trials[list(case.metrics)].notna().all(axis=None)
    assert len(run.history) == 2
    assert run.history["loss"].notna().all()


@every_case
def test_networks_are_trained_alone_by_the_task_s_loss(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    evaluator = Standalone(epochs=2, batch_size=16, early_stopping=False)
    run = searched(case, tmp_path, evaluator=evaluator, epochs=None, supernet=None)
    trials = run.trials
    assert trials["status"].tolist() == ["completed"] * len(trials)
    assert trials[list(case.metrics)].notna().all(axis=None)
    assert trials["epochs"].tolist() == [2] * len(trials)


@every_case
def test_a_run_folder_knows_its_task(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    run = searched(case, tmp_path)
    task = task_of(case)
    assert run.config.task is not None
    assert run.config.task.options == json.loads(json.dumps(task_spec(task).options))
    again = rebuild_task(task_spec(task))
    assert again.metrics == task.metrics
    assert again.objective == task.objective
    loaded = raynas.load(str(tmp_path), data=case.datasets)
    scores = loaded.rescore(1).iloc[0]
    assert (
        scores[f"valid_{task.objective[0]}"] == run.rescore(1).iloc[0][f"valid_{task.objective[0]}"]
    )
    more = {key: value for key, value in case.given.items() if key != "objectives"}
    resumed = raynas.search(
        None, data=case.datasets, out=str(tmp_path), resume=True, trials=2, ray=INLINE, **more
    )
    assert len(resumed.trials) == len(run.trials)
