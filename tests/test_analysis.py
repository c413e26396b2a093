"""Questions to a table of trials, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.objectives import Objective
from raynas.core.trial import Trial
from raynas.results.analysis import importance
from raynas.results.result import Result
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.table_writers import TrialStore

SPACE = ArchSpace.of(op=["conv", "skip"], depth=[2, 10])
# accuracy, MACs, op, depth; the fourth was beyond a bound of the run
ROWS = [
    (0.5, 2e6, "conv", 2),
    (0.8, 4e6, "conv", 10),
    (0.7, 3e6, "skip", 10),
    (0.9, 9e6, "skip", 2),
]


@pytest.fixture
def result(tmp_path: Path) -> Result:
    config = SearchConfig(
        space=ComponentSpec(name="toy"),
        algo=ComponentSpec(name="random"),
        evaluator=ComponentSpec(name="function"),
        objectives={"accuracy": "max", "macs": "min"},
        constraints={"macs": (None, 5e6)},
        out=str(tmp_path),
    )
    Folder(str(tmp_path)).write(CONFIG, config.to_json())
    trials = [
        Trial(
            arch=Arch({"op": op, "depth": depth}),
            number=i,
            status="infeasible" if macs > 5e6 else "completed",
            objective=None if macs > 5e6 else accuracy,
            metrics={"accuracy": accuracy, "macs": macs},
            told_event=2 * i + 1,
        )
        for i, (accuracy, macs, op, depth) in enumerate(ROWS)
    ]
    TrialStore(str(tmp_path), SPACE, ("accuracy", "macs")).append(trials)
    return Result(str(tmp_path))


def test_front_volume_and_knee(result: Result) -> None:
    assert list(result.pareto()["trial"]) == [1, 2, 0]
    # boxes above (0.4, 5e6): 0.1 x 3e6, then 0.2 x 2e6, then 0.1 x 1e6
    assert result.hypervolume({"accuracy": 0.4, "macs": 5e6}) == pytest.approx(0.8e6)
    # above the worst measured (0.5, 4e6): only the middle one, 0.2 x 1e6
    assert result.hypervolume() == pytest.approx(0.2e6)
    assert result.knee()["trial"] == 2
    assert list(result.pareto({"accuracy": "max"})["trial"]) == [1]
    with pytest.raises(KeyError, match="no value for 'macs'"):
        result.hypervolume({"accuracy": 0.4})
    with pytest.raises(KeyError, match=r"'mac'.*did you mean 'macs'"):
        result.pareto({"mac": "min"})


def test_a_wrong_name_is_told_with_metrics_alone(result: Result) -> None:
    with pytest.raises(KeyError) as told:
        result.importance("acc")
    assert told.value.args == ("no trial has a metric 'acc'; known: accuracy, macs, objective",)
    with pytest.raises(KeyError, match=r"names 'acuracy'.*did you mean 'accuracy'"):
        result.hypervolume({"acuracy": 0.4, "macs": 5e6})


def test_query_asks_anew(result: Result) -> None:
    best = result.query([], {"accuracy": "max"})
    assert list(best["trial"]) == [3, 1, 2, 0]  # in place of the run's own bound: none
    assert list(result.query(objectives={"accuracy": "max"})["trial"]) == [1, 2, 0]
    assert list(result.query("macs<3.5e6", {"accuracy": "max"})["trial"]) == [2, 0]
    assert list(result.query({"macs": (2.5e6, None)})["trial"]) == [3, 1, 2]
    assert result.query("macs<1").empty
    with pytest.raises(KeyError, match="'latency'"):
        result.query("latency<1")


def rebound(result: Result, high: float) -> Result:
    """Return the run as it stands after going on under another bound."""
    config = result.config.model_copy(update={"constraints": {"macs": (None, high)}})
    result.folder.write(CONFIG, config.to_json())
    return Result(result.path)


def test_bounds_of_an_earlier_start_do_not_count(result: Result) -> None:
    tight = rebound(result, 3e6)
    assert (tight.best.number, list(tight.top()["trial"])) == (2, [2, 0])
    assert list(tight.pareto()["trial"]) == list(tight.query()["trial"]) == [2, 0]
    assert tight.hypervolume({"accuracy": 0.4, "macs": 5e6}) == pytest.approx(0.7e6)
    assert list(tight.query("macs<4e6")["trial"]) == [1, 2, 0]
    wide = rebound(result, 1e7)
    assert (wide.best.number, wide.best.status, wide.best.objective) == (3, "completed", 0.9)
    assert list(wide.top()["trial"]) == list(wide.pareto()["trial"]) == [3, 1, 2, 0]
    assert list(wide.trials["status"]) == ["completed"] * 3 + ["infeasible"]  # as on disk
    with pytest.raises(LookupError, match="none keeps the bounds"):
        _ = rebound(result, 1.0).best


def test_importance_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "status": ["completed"] * 6 + ["failed"],
            "accuracy": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 9.0],
            "choice.a": ["x", "x", "y", "y", "z", "z", "x"],  # decides all
            "choice.b": ["p", "q", "p", "q", "p", "q", "p"],  # decides nothing
            "choice.c": ["p", None, "p", None, "q", None, "p"],  # reached in half of the trials
        }
    )
    table = importance(frame, Objective("accuracy")).set_index("choice")
    assert table.loc["a", "importance"] == 1.0
    assert table.loc["a", "effect"] == 2.0
    assert table.loc["a", "best"] == "z"
    assert table.loc["b", "importance"] == 0.0
    # c: totals 2, within 0.5, one degree of freedom left: (2 - 0.5 - 0.5) / 2
    assert table.loc["c", "importance"] == pytest.approx(0.5)
    assert list(table["trials"]) == [6, 3, 6]
    fewer = importance(frame, Objective("accuracy", "min")).set_index("choice")
    assert fewer.loc["a", "best"] == "x"


def test_importance_of_noise_is_small() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"status": "completed", "accuracy": rng.normal(size=400)}, range(400))
    frame["choice.a"] = rng.integers(4, size=400)
    # epsilon squared of noise has mean 0 and a standard deviation below 0.01 here: 6 of them
    assert importance(frame, Objective("accuracy"))["importance"].iloc[0] < 0.06
