"""What a search by gradients refuses, before anything starts or at its first step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import raynas
from raynas.algorithms.darts import DARTS
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule, Splits
from raynas.nn import LayerChoice
from raynas.supernet.training import SupernetTraining
from tests.inline import INLINE

X, Y = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 4
DATA = TensorDataset(X, Y)


class Net(nn.Module):
    """One choice of two layers, and a classifier of four."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = LayerChoice({"a": nn.Linear(6, 6), "b": nn.Tanh()}, label="choice")
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        logits: torch.Tensor = self.head(self.choice(x))
        return logits


class Narrowing(Net):
    """One of its candidates gives another shape."""

    def __init__(self) -> None:
        super().__init__()
        layers = {"a": nn.Linear(6, 6), "b": nn.Linear(6, 5)}
        self.choice = LayerChoice(layers, label="choice")


class Own(DataModule):
    """A user's own data, whose splits are not looked at before they are loaded."""

    name, input_shape, num_classes, batch_size = "own", (6,), 4, 8

    def __init__(self, train: torch.Tensor, held: int) -> None:
        self.train, self.held = train, held

    def load(self) -> Splits:
        """Return them."""
        return Splits((X, self.train), (X[: self.held], Y[: self.held]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((DATA,), r"expected (train, valid[, test]), got 1 items"),
        ((DATA, TensorDataset(X[:0], Y[:0])), "data: the valid split is empty"),
        ((TensorDataset(X, 0 * Y + 3), DATA), "train split has only one class, 3, in 24 examples"),
    ],
    ids=["no validation set", "an empty one", "one class"],
)
def test_data_that_cannot_be_searched_with_are_refused_at_once(
    data: Any, message: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=re.escape(message)):
        raynas.search(Net, "darts", data=data, out=str(out))
    assert not out.exists()


def test_a_candidate_that_changes_shape_is_refused_at_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InvalidSpace, match="choice 'choice': candidate 'b' gives shape"):
        raynas.search(Narrowing, "darts", data=(DATA, DATA), out=str(out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 25}, "batch_size 25 is larger than the 24 training examples"),
        ({"precision": "fp16"}, "precision: input should be 'float32', 'bfloat16' or 'float16'"),
        ({"channels_last": 3}, "channels_last: input should be a valid boolean"),
        ({"sync_batchnorm": True}, "no option 'sync_batchnorm'; did you mean 'sync_batch_norm'"),
    ],
)
def test_options_of_the_training_are_checked_at_once(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        raynas.search(Net, "darts", data=(DATA, DATA), out=str(out), options=options)
    assert not out.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Own(Y, 24), "batch_size 25 is larger than the 24 training examples"),
        (Own(0 * Y, 24), "train split has only one class, 0, in 24 examples"),
        (Own(Y, 0), "0 validation examples are too few for 1 training workers"),
    ],
    ids=["batch larger than data", "one class", "no validation example"],
)
def test_what_only_loading_shows_is_said_before_the_first_step(
    data: DataModule, message: str
) -> None:
    settings = TrainSettings(batch_size=25 if message.startswith("batch") else 8)
    with pytest.raises(ValueError, match=message):
        SupernetTraining(Net(), DARTS(), data, settings)


def test_a_search_in_bfloat16_is_resumed_in_bfloat16_only(tmp_path: Path) -> None:
    options = {"epochs": 1, "batch_size": 8, "precision": "bfloat16", "channels_last": False}
    given: dict[str, Any] = {"data": (DATA, DATA), "out": str(tmp_path), "ray": INLINE}
    found = raynas.search(Net, "darts", options=options, **given)
    assert set(found.trials["status"]) == {"completed"}
    assert found.config.supernet is not None
    kept = found.config.supernet.options
    assert (kept["precision"], kept["channels_last"], kept["sync_batch_norm"]) == (
        "bfloat16",
        False,
        False,
    )
    with pytest.raises(ValueError, match="'precision': 'bfloat16'"):
        raynas.search(
            Net, "darts", options={**options, "precision": "float32"}, resume=True, **given
        )
