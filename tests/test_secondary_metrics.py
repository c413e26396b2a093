"""What an evaluator returns beside its objective costs no evaluation, whatever it is."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn
from torch.utils.data import TensorDataset

import raynas
from raynas.cli import main
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.evaluator import Measurement, sorted_out
from raynas.core.fixed_list import FixedListSampler
from raynas.core.goals import goals_of
from raynas.core.study import Study, StudyInfo
from raynas.core.trial import Trial
from raynas.nn import LayerChoice
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = ArchSpace.of(depth=[1, 2, 3, 4])
ODD: dict[int, Any] = {1: 0.5, 2: math.nan, 3: None, 4: -math.inf}


def odd(arch: Mapping[str, Any]) -> dict[str, Any]:
    """Return an accuracy, and beside it what users return."""
    depth = arch["depth"]
    return {
        "accuracy": depth / 8,
        "auc": ODD[depth],
        "val/lat-ms": np.float32(depth),
        "weights": f"s3://weights/{depth}",
        "curve": [0.1, 0.2],
        "by_class": {"cat": np.zeros(3)},
    }


def searched(evaluator: Any, out: Path, **more: Any) -> raynas.Result:
    """Search the whole space in this process."""
    options: dict[str, Any] = {"trials": 4, "seed": 0, "ray": INLINE} | more
    return raynas.search(SPACE, "grid", evaluator=evaluator, out=str(out), **options)


def test_a_paid_evaluation_is_kept_whatever_stands_beside_its_objective(tmp_path: Path) -> None:
    result = searched(odd, tmp_path)
    rows = result.trials.set_index("choice.depth").sort_index()
    assert rows["status"].tolist() == ["completed"] * 4
    assert rows["accuracy"].tolist() == [1 / 8, 2 / 8, 3 / 8, 4 / 8]
    assert rows["auc"].tolist()[:1] == [0.5]
    assert rows["auc"].isna().tolist() == [False, True, True, True]
    assert rows["weights"].tolist() == [f"s3://weights/{depth}" for depth in (1, 2, 3, 4)]
    assert not {"curve", "by_class"} & {*rows.columns}
    nested = (
        "metric 'curve' must be a number, got [0.1, 0.2] (list); metric 'by_class' must be a "
        "number, got {'cat': array([0., 0., 0.])} (dict)"
    )
    assert rows["left_out"].tolist() == [
        nested,
        f"metric 'auc' is nan; {nested}",
        f"metric 'auc' must be a number, got None (NoneType); {nested}",
        f"metric 'auc' is -inf; {nested}",
    ]
    assert result.best.text_metrics == {"weights": "s3://weights/4"}
    assert dict(result.best.metrics) == {"accuracy": 0.5, "val/lat-ms": 4.0}


def test_the_table_report_and_commands_hold_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(odd, tmp_path)
    assert main(["trials", str(tmp_path), "--csv"]) == 0
    (tmp_path / "t.csv").write_text(capsys.readouterr().out, encoding="utf-8")
    rows = pd.read_csv(tmp_path / "t.csv").set_index("choice.depth").sort_index()
    assert rows["weights"].tolist() == [f"s3://weights/{depth}" for depth in (1, 2, 3, 4)]
    assert rows["left_out"][2].startswith("metric 'auc' is nan; ")
    for command in (["trials", str(tmp_path)], ["report", str(tmp_path)]):
        assert main(command) == 0
    for command in (["trials", str(tmp_path), "--sort", "weights"],):
        assert main(command) == 0


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "ValueError: metric 'accuracy' is nan"),
        (math.inf, "ValueError: metric 'accuracy' is inf"),
        (None, "ValueError: metric 'accuracy' must be a number, got None (NoneType)"),
        ("good", "ValueError: metric 'accuracy' must be a number, got 'good' (str)"),
        ([0.5], "ValueError: metric 'accuracy' must be a number, got [0.5] (list)"),
    ],
)
def test_an_objective_that_is_no_number_fails_its_trial_alone(
    value: Any, told: str, tmp_path: Path
) -> None:
    def evaluator(arch: Mapping[str, Any]) -> dict[str, Any]:
        return odd(arch) | ({"accuracy": value} if arch["depth"] == 1 else {})

    rows = searched(evaluator, tmp_path).trials.set_index("choice.depth")
    assert rows["status"].to_dict() == {1: "failed", 2: "completed", 3: "completed", 4: "completed"}
    assert rows["error"][1] == told
    assert rows["weights"][1] == "s3://weights/1"
    assert rows["auc"][1] == 0.5
    assert math.isnan(rows["objective"][1])


def test_a_bounded_metric_that_is_no_number_fails_its_trial_alone(tmp_path: Path) -> None:
    result = searched(odd, tmp_path, constraints="auc > 0")
    rows = result.trials.set_index("choice.depth")
    assert rows["status"].to_dict() == {1: "completed", 2: "failed", 3: "failed", 4: "failed"}
    assert rows["error"][2] == "ValueError: metric 'auc' is nan"
    assert result.best.arch == {"depth": 1}


def test_a_bare_nan_is_the_objective(tmp_path: Path) -> None:
    rows = searched(lambda arch: ODD[arch["depth"]] or 0.25, tmp_path).trials
    assert Counter(rows["status"]) == {"completed": 2, "failed": 2}


def test_a_run_that_goes_on_equals_one_that_never_stopped(tmp_path: Path) -> None:
    whole = searched(odd, tmp_path / "whole").trials
    searched(odd, tmp_path / "parts", trials=2)
    parts = searched(odd, tmp_path / "parts", resume=True).trials
    when = ["started_utc", "finished_utc", "duration_s"]
    assert_frame_equal(whole.drop(columns=when), parts.drop(columns=when))


def test_what_is_asked_again_has_the_same_text() -> None:
    told: list[Trial] = []
    arch = Arch({"depth": 2})
    study = Study(
        FixedListSampler([arch, arch]),
        goals_of({"accuracy": "max"}),
        trials=2,
        setting=StudyInfo(algo="a", evaluator="function"),
        sink=told.extend,
    )
    asked = study.ask()
    assert asked is not None
    study.tell([(asked, sorted_out(odd(arch)))])
    assert study.ask() is None
    first, again = told
    assert again.status == "duplicate"
    assert again.text_metrics == first.text_metrics == {"weights": "s3://weights/2"}
    assert again.left_out == first.left_out
    assert again.metrics == first.metrics


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_measurement_travels_as_json(depth: int) -> None:
    measured = sorted_out(odd({"depth": depth}))
    text = json.dumps(asdict(measured), allow_nan=False)
    assert Measurement(**json.loads(text)) == measured


def test_a_trial_without_a_loss_does_not_win_a_tie(tmp_path: Path) -> None:
    losses: dict[int, Any] = {1: math.nan, 2: 0.5, 3: 0.25, 4: None}
    result = searched(lambda arch: {"accuracy": 0.5, "loss": losses[arch["depth"]]}, tmp_path)
    assert result.best.arch == {"depth": 3}
    assert result.top(1)["choice.depth"].tolist() == [3]
    losses = {1: math.nan, 2: "b", 3: "a", 4: 0.5}
    result = searched(
        lambda arch: {"accuracy": 0.5, "loss": losses[arch["depth"]]}, tmp_path / "text"
    )
    assert result.top(1)["trial"].tolist() == [result.best.number]


class Training:
    """Trains nothing for three epochs; says a secondary metric only in the last."""

    epochs = 3
    metrics = ("accuracy",)

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def train_epochs(self, net: Any, data: Any, seed: int) -> Any:
        """Yield what is measured after every epoch."""
        yield from self.values


@pytest.mark.parametrize(
    ("values", "status", "epochs"),
    [
        ([{"accuracy": 0.5, "f1": None}] * 2 + [{"accuracy": 0.5, "f1": 0.75}], "completed", 3),
        ([{"accuracy": 0.5}, {"accuracy": math.nan, "f1": 0.5}, {"accuracy": 0.5}], "failed", 1),
    ],
)
def test_a_training_fails_at_the_epoch_whose_objective_is_no_number(
    values: list[Any], status: str, epochs: int, tmp_path: Path
) -> None:
    result = raynas.search(
        ToyNet,
        "random",
        evaluator=Training(values),
        trials=1,
        out=str(tmp_path),
        ray=INLINE,
    )
    (row,) = result.trials.to_dict("records")
    assert (row["status"], row["epochs"]) == (status, epochs)
    assert row["f1"] == (0.75 if status == "completed" else 0.5)


class NanWhenScored(nn.Module):
    """A layer that works in training only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input, or nan."""
        return x if self.training else x * math.nan


class Sick(nn.Module):
    """A classifier one of whose two candidates gives nan when it is scored."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = LayerChoice({"sound": nn.Tanh(), "sick": NanWhenScored()}, label="choice")
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        logits: torch.Tensor = self.head(self.choice(x))
        return logits


@pytest.mark.parametrize("evaluator", ["shared", ["standalone", {"early_stopping": False}]])
def test_an_accuracy_of_nan_logits_is_no_score(evaluator: Any, tmp_path: Path) -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x[:, :4].argmax(1))
    result = raynas.search(
        Sick,
        "grid",
        evaluator=evaluator,
        data=(data, data),
        trials=2,
        epochs=1,
        out=str(tmp_path),
        ray=INLINE,
    )
    rows = result.trials.set_index("choice.choice")
    assert rows["status"].to_dict() == {"sound": "completed", "sick": "failed"}
    assert rows["error"]["sick"].startswith("ValueError: metric 'loss' is nan")
