"""Supernets of converted models are trained by sampling, also from the whole as teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.algorithms.progressive_shrinking import ProgressiveShrinking
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.data.digits import Digits
from raynas.nn.dimensions import dimensions_of
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining


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
