"""Supernets of converted models are trained by sampling, also from the whole as teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms.progressive_shrinking import ProgressiveShrinking
from raynas.core.blocks import largest
from raynas.core.errors import InvalidSpace
from raynas.core.locations import parent
from raynas.core.train_settings import TrainSettings
from raynas.data.digits import Digits
from raynas.data.module import DataModule, Splits
from raynas.nn.dimensions import dimensions_of
from raynas.storage.tables import read_history
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining
from raynas.tasks import TASKS
from tests.inline import INLINE


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.inner = nn.Sequential(nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU(), nn.Conv2d(12, 8, 1))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        logits: Tensor = self.head((x + self.inner(x)).mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def space() -> raynas.ModelSpace:
    torch.manual_seed(0)
    return raynas.elastic(Residual(), torch.randn(2, 1, 8, 8), width=[0.5], kernel=1, depth=True)


SANDWICH = {"stages": [{"depth": [0, 1], "kernel": [1, 3]}], "sandwich": True}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spos", {}),
        ("spos", {"fairness": "strict"}),
        ("progressive_shrinking", SANDWICH),
        ("progressive_shrinking", SANDWICH | {"in_place": True}),
    ],
)
def test_an_epoch_trains_parts_of_the_model(
    space: raynas.ModelSpace, name: str, options: Any
) -> None:
    algo = ONE_SHOTS[name](seed=0, **options)
    settings = TrainSettings(epochs=1, batch_size=250)
    net = space.supernet()
    before = {k: weight.detach().clone() for k, weight in net.named_parameters()}
    training = SupernetTraining(net, algo, Digits(size=8), settings, seed=0, inherited=True)
    row = training.run_epoch()
    assert np.isfinite(row["loss"])
    assert all(not weight.equal(before[k]) for k, weight in net.named_parameters())
    assert ("distill_loss" in row) == (name == "progressive_shrinking")


class Feed(nn.Module):
    """A residual MLP over the last dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return out


def residual(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), Feed(), nn.Linear(8, outputs))


class Pixels(nn.Module):
    """Logits of three classes for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        out: Tensor = self.head(x + self.inner(x))
        return out


class Judge(nn.Module):
    """A model that returns its own loss, and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = residual(4, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.body(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


X, TOKENS = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)), 7
PIXELS = X.view(32, 1, 2, 2)
CLASSES = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
IDS = torch.arange(32 * 5).view(32, 5) % TOKENS
SUBJECTS: dict[str, tuple[Callable[[], nn.Module], Any, Any]] = {
    "multilabel": (lambda: residual(4, 2), X, X[:, :2].gt(0).float()),
    "regression": (lambda: residual(4, 1), X, X.sum(1)),
    "segmentation": (Pixels, PIXELS, (PIXELS[:, 0] > 0).long()),
    "language_modeling": (
        lambda: nn.Sequential(nn.Embedding(TOKENS, 8), Feed(), nn.Linear(8, TOKENS)),
        IDS[:, :-1],
        IDS[:, 1:],
    ),
    "from_model": (Judge, {"x": X}, CLASSES),
}


class Examples(DataModule):
    """The same examples to train and to validate."""

    name, input_shape, batch_size, num_classes = "examples", (4,), 8, None

    def __init__(self, inputs: Any, targets: Tensor, task: str) -> None:
        self._inputs, self._targets, self.task = inputs, targets, TASKS[task]()

    def load(self) -> Splits:
        return Splits((self._inputs, self._targets), (self._inputs, self._targets))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("task", SUBJECTS)
def test_any_task_learns_from_the_whole_and_from_a_teacher(task: str, in_place: bool) -> None:
    made, inputs, targets = SUBJECTS[task]
    torch.manual_seed(0)
    model = made()
    example = {"x": X} if task == "from_model" else inputs
    space = raynas.elastic(model, example, width=[0.5], ffn=[0.5], depth=True)
    algo = ProgressiveShrinking(stages=[{"depth": [0, 1]}], sandwich=True, in_place=in_place)
    settings = TrainSettings(epochs=1, batch_size=16, teacher=model, lr=0.01)
    net = space.supernet()
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    data = Examples(inputs, targets, task)
    training = SupernetTraining(net, algo, data, settings, seed=0, inherited=True)
    row = training.run_epoch()
    assert np.isfinite(row["loss"])
    assert row["distill_loss"] > 0.0
    assert all(not weight.equal(before[name]) for name, weight in net.named_parameters())


def test_outputs_that_no_teacher_teaches_are_named() -> None:
    space = raynas.elastic(Judge(), {"x": X}, ffn=[0.5])
    task = raynas.Task(loss=lambda out, target: out["logits"].mean() + 0.0 * target.sum())
    data = Examples({"x": X}, CLASSES, "from_model")
    data.task = task
    settings = TrainSettings(epochs=1, batch_size=16, teacher=Judge())
    training = SupernetTraining(space.supernet(), ONE_SHOTS["spos"](seed=0), data, settings, seed=0)
    with pytest.raises(
        TypeError, match=r"learned where they are one tensor, and the model returns"
    ):
        training.run_epoch()


@pytest.mark.parametrize("trained", [True, False])
def test_weights_that_are_not_trained_teach_nobody_and_are_not_searched(
    trained: bool, tmp_path: Path
) -> None:
    model = SUBJECTS["regression"][0]()
    space = raynas.elastic(model, X, ffn=[0.5], depth=True, trained=trained, order="l1")
    assert space.trained == trained, "also of a space that is sorted"
    rows = TensorDataset(X, X.sum(1)), TensorDataset(X, X.sum(1))
    common: dict[str, Any] = {"data": rows, "task": "regression", "ray": INLINE}
    path = raynas.train_supernet(
        space,
        "progressive_shrinking",
        options={"stages": [{"depth": [0, 1], "width": [8, 16], "epochs": 1}]},
        out=str(tmp_path / "supernet"),
        **common,
    )
    (row,) = read_history(parent(str(path))).to_pylist()
    assert (row.get("distill_loss") is not None) == trained
    spos: Any = ONE_SHOTS["spos"](seed=0)
    data, settings = Examples(X, X.sum(1), "regression"), TrainSettings(epochs=30, batch_size=8)
    SupernetTraining(space.supernet(), spos, data, settings, seed=0, inherited=space.trained)
    whole = largest(space.arch_space)
    drawn = [spos.path(step) for step in range(20)]
    assert (drawn == [whole] * 20) == (not trained), "the warm start trains the whole"
    search: dict[str, Any] = {"supernet": {"epochs": 0}, "trials": 1, **common}
    if trained:
        found = raynas.search(space, "random", out=str(tmp_path / "search"), **search)
        assert found.best is not None
    else:
        with pytest.raises(ValueError, match=r"epochs=0 searches weights as they are, and those"):
            raynas.search(space, "random", out=str(tmp_path / "search"), **search)


def test_sizes_of_a_converted_model_are_widths_kernels_and_depths(space: Any) -> None:
    kinds = {label: size.kind for label, size in dimensions_of(space.supernet()).items()}
    assert {kind: [*kinds.values()].count(kind) for kind in ("width", "kernel", "depth")} == {
        "width": 2,
        "kernel": 2,
        "depth": 1,
    }


def test_in_place_distillation_needs_a_sandwich() -> None:
    with pytest.raises(ValueError, match="in_place: networks learn from the largest one"):
        ProgressiveShrinking(in_place=True)


@pytest.mark.parametrize("name", ["one_shot", "smash"])
def test_what_does_not_sample_is_refused(space: raynas.ModelSpace, name: str) -> None:
    with pytest.raises(InvalidSpace, match=r"cannot be relaxed|trains a hypernetwork"):
        ONE_SHOTS[name](seed=0).check(space.supernet(), torch.zeros(1, 1, 8, 8))
