"""Metrics and losses of a user's own: functions, modules and objects of torchmetrics."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchmetrics
from sklearn import metrics as reference
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import classification as tm

from raynas.tasks import Task
from raynas.tasks.classification import Classification
from raynas.tasks.language_modeling import LanguageModeling
from raynas.tasks.metric_state import MetricState
from raynas.tasks.regression import Regression
from raynas.tasks.resolve import task_of
from raynas.tasks.segmentation import Segmentation


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole(high: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def evaluated(task: Task, output: Any, target: Any, size: int = 7) -> dict[str, float]:
    state = task.state()
    for part, targets in zip(output.split(size), target.split(size), strict=True):
        state.update(part, targets)
    return state.compute()


def over_ranks(task: Task, output: Tensor, target: Tensor, *sizes: int) -> dict[str, float]:
    total = task.state()
    for part, targets in zip(output.split(sizes), target.split(sizes), strict=True):
        state = task.state()
        for some, few in zip(part.split(4), targets.split(4), strict=True):
            state.update(some, few)
        total.merge(pickle.loads(pickle.dumps(state)))
    return total.compute()


def test_functions_are_called_once_over_everything_on_the_cpu() -> None:
    calls = list[tuple[int, int]]()

    def auc(outputs: Tensor, targets: Tensor) -> float:
        calls.append((len(outputs), len(targets)))
        return float(reference.roc_auc_score(targets, outputs[:, 1]))

    task = Classification(metrics={"auc": auc})
    logits, classes = numbers(40, 2), whole(2, 40)
    values = evaluated(task, logits, classes)
    assert calls == [(40, 40)]
    assert values["auc"] == reference.roc_auc_score(classes, logits[:, 1])
    assert list(values) == ["accuracy", "loss", "auc"]


def test_a_loss_of_ones_own_is_evaluated_over_all_outputs_that_are_kept() -> None:
    def root(output: Tensor, target: Tensor) -> Tensor:  # not a mean over rows
        return functional.mse_loss(output, target).sqrt()

    output, target = numbers(30), numbers(30, seed=1)
    for task in (Task(loss=root), Regression(loss=root)):
        assert evaluated(task, output, target)["loss"] == float(root(output, target))
        assert evaluated(task, output, target, size=30)["loss"] == float(root(output, target))


def test_a_loss_of_ones_own_over_pixels_is_the_mean_of_rows() -> None:
    def squares(output: Tensor, target: Tensor) -> Tensor:
        return (output[:, 0] - target).square().mean()

    task = task_of("segmentation", loss=squares)
    output, target = numbers(10, 2, 3, 3), whole(2, 10, 3, 3)
    values = evaluated(task, output, target, size=4)
    assert values["loss"] == pytest.approx(float(squares(output, target)), rel=1e-6)
    assert values["mean_iou"] == evaluated(Segmentation(), output, target)["mean_iou"]
    assert not task.smooths
    assert Segmentation().smooths


def test_a_metric_of_ones_own_replaces_the_tasks() -> None:
    own = tm.MulticlassAccuracy(3, average="macro")
    logits, classes = numbers(40, 3), whole(3, 40)
    task = Classification(metrics={"accuracy": own})
    assert task.metrics == ("accuracy", "loss")
    expected = float(tm.MulticlassAccuracy(3, average="macro")(logits, classes))
    assert evaluated(task, logits, classes)["accuracy"] == expected
    assert task.reward(logits, classes) == expected


class Unset(torchmetrics.Metric):
    """A metric that leaves ``full_state_update`` unset, as most of users' own do."""

    total: Tensor
    largest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("largest", torch.tensor(-math.inf), dist_reduce_fx="max")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total = self.total + (outputs.double() * targets).sum()
        self.largest = torch.maximum(self.largest, outputs.max())

    def compute(self) -> Tensor:
        return self.total + self.largest


class Averaged(Unset):
    """A metric whose states are averaged over ranks, whatever rows these had."""

    mean: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("mean", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="mean")
        self.add_state("rows", torch.tensor(0.0), dist_reduce_fx="mean")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.mean = self.mean + outputs.double().sum()
        self.rows = self.rows + len(outputs)

    def compute(self) -> Tensor:
        return self.mean / self.rows


class Plain(torchmetrics.Metric):
    """A metric that keeps its state where torchmetrics does not see it."""

    seen = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.seen += len(outputs)

    def compute(self) -> int:
        return self.seen

    def reset(self) -> None:
        super().reset()
        self.seen = 0


METRICS: dict[str, Callable[[], torchmetrics.Metric]] = {
    "sums": lambda: torchmetrics.MeanSquaredError(),
    "lists": lambda: torchmetrics.KendallRankCorrCoef(),
    "stacked": lambda: torchmetrics.PearsonCorrCoef(),
    "unset": Unset,
    "averaged": Averaged,
    "plain": Plain,
    "composed": lambda: torchmetrics.MeanSquaredError() + torchmetrics.MeanAbsoluteError(),
}


@pytest.mark.parametrize("kind", METRICS)
def test_objects_of_torchmetrics_are_exact_over_batches_and_ranks(kind: str) -> None:
    metric, untouched = METRICS[kind](), METRICS[kind]()
    task = Task(loss=functional.mse_loss, metrics={"own": metric})
    output, target = numbers(30), numbers(30, seed=1)
    untouched.update(output, target)
    expected = float(untouched.compute())
    metric.update(output * 9, target)  # what the user did with it before has no part
    assert evaluated(task, output, target)["own"] == pytest.approx(expected, rel=1e-5)
    assert over_ranks(task, output, target, 3, 20, 7)["own"] == pytest.approx(expected, rel=1e-5)
    state = task.state()
    state.update(output, target)
    total = task.state()
    total.update(output[:0], target[:0]) if kind == "plain" else None
    total.merge(state)
    assert total.compute()["own"] == pytest.approx(expected, rel=1e-5)
    assert total.compute() == total.compute()


def test_a_collection_is_metrics() -> None:
    given = torchmetrics.MetricCollection({"mse": torchmetrics.MeanSquaredError()}, prefix="own_")
    task = task_of(None, loss=functional.mse_loss, metrics=given)
    assert task.metrics == ("loss", "own_mse")
    assert set(evaluated(task, numbers(5), numbers(5, seed=1)).values()) != {0.0}


def test_a_metric_knows_its_direction() -> None:
    def objective(text: str) -> tuple[str, str]:
        own = {"own_error": torchmetrics.MeanSquaredError(), "own": lambda *_: 0.0}
        return Regression(metrics=own, objective=text).objective

    texts = ["own_error", "own", "own:min", "mse", "r2", "loss", "loss:max"]
    goals = ["min", "max", "min", "min", "max", "min", "max"]
    assert [objective(text)[1] for text in texts] == goals


def test_nothing_imports_torchmetrics_unasked() -> None:
    program = """
import sys, torch
from raynas.tasks import TASKS
from raynas.tasks.resolve import task_of
for name in TASKS:
    task_of(name, metrics={"own": lambda *_: 0.0})
state = task_of("regression").state()
state.update(torch.ones(3), torch.ones(3))
state.compute()
assert "torchmetrics" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_loss_with_tensors_of_its_own() -> None:
    loss = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))
    logits, classes = numbers(9, 3), whole(3, 9)
    values = evaluated(task_of("classification", loss=loss), logits, classes)
    assert values["loss"] == float(loss(logits, classes))


def test_lengths_that_differ_are_told() -> None:
    logits, ids = numbers(2, 4, 5), whole(5, 2, 4)
    task = LanguageModeling(metrics={"own": lambda *_: 0.0})
    state: MetricState = task.state()
    state.update(logits, ids)
    state.update(logits[:, :3], ids[:, :3])
    with pytest.raises(ValueError, match=r"\[\(3, 5\), \(4, 5\)\] cannot be put together"):
        state.compute()


def test_what_has_no_rows_cannot_be_put_together() -> None:
    class Averaging(Task):
        keeps_outputs = False

    def penalised(output: dict[str, Tensor], target: Tensor) -> Tensor:
        return functional.mse_loss(output["mean"], target) + output["penalty"]

    output, target = {"mean": numbers(6), "penalty": torch.tensor(0.5)}, numbers(6, seed=1)
    state = Task(loss=penalised).state()
    state.update(output, target)
    with pytest.raises(
        ValueError, match=r"hold \(\) float32, which cannot be put .* averages losses"
    ):
        state.compute()
    state = Averaging(loss=penalised).state()
    for rows in (slice(0, 2), slice(2, 6)):
        state.update({**output, "mean": output["mean"][rows]}, target[rows])
    assert state.compute()["loss"] == pytest.approx(float(penalised(output, target)), rel=1e-6)


def test_a_state_that_was_sent_is_merged_not_computed() -> None:
    state = Classification(metrics={"own": lambda *_: 0.0}).state()
    state.update(numbers(4, 3), whole(3, 4))
    sent = pickle.loads(pickle.dumps(state))
    with pytest.raises(TypeError, match=r"merge it into task\.state\(\)$"):
        sent.compute()
    with pytest.raises(TypeError, match=r"merge it into task\.state\(\)$"):
        sent.merge(state)
