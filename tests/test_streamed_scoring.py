"""Streamed data train and score as the same data in memory, and are decoded once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import raynas
from raynas.algorithms import SPOS
from raynas.core.train_settings import TrainSettings
from raynas.data.split import split_of
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.held_examples import read_once
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.scoring import SubnetScorer
from raynas.supernet.training import SupernetTraining
from tests.inline import INLINE

CLASSES = 3


class Drawn(Dataset[Any]):
    """Images, drawn when read; every reading leaves a byte in a file."""

    def __init__(self, count: int, seed: int, *, kind: str = "float32", log: Path | None = None):
        self.count, self.seed, self.kind, self.log = count, seed, kind, log

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        if self.log is not None:
            with open(self.log, "ab", buffering=0) as file:
                file.write(b".")
        rng = np.random.default_rng([self.seed, at])
        if self.kind == "uint8":
            return torch.from_numpy(rng.integers(0, 256, (1, 6, 6), dtype=np.uint8)), at % CLASSES
        image = torch.from_numpy(rng.standard_normal((1, 6, 6)))
        image[0, at % CLASSES] += 2
        return image.to(getattr(torch, self.kind)), at % CLASSES


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        convs = {f"k{k}": nn.Conv2d(1, 4, k, padding=k // 2) for k in (1, 3)}
        self.conv, self.norm = LayerChoice(convs, label="conv"), nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 36, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().flatten(1))  # type: ignore[no-any-return]


def data(hold: Any, workers: int = 0, **given: Any) -> TensorData:
    datasets = Drawn(48, 0, **given), Drawn(32, 1, **given)
    return TensorData(datasets, hold=hold, loader_workers=workers, batch_size=16)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_trainings_have_the_losses_of_those_in_memory(workers: int) -> None:
    """In float64 and in the same order, to the bit."""
    settings = TrainSettings(epochs=3, lr=0.1, mixup=0.2, optimizer="adamw")
    rows = []
    for hold, count in (("memory", 0), ("stream", workers)):
        net = ModelSpace(Net).build({"conv": "k3"}).double()
        training = NetworkTraining(net, data(hold, count, kind="float64"), settings, seed=1)
        losses = [training.run_epoch()["loss"] for _ in range(3)]
        rows.append((losses, training.validate()))
    assert rows[0] == rows[1]


def test_streamed_supernets_and_their_probes_are_those_in_memory() -> None:
    histories = []
    for hold in ("memory", "stream"):
        model = ModelSpace(Net).supernet().double()
        training = SupernetTraining(
            model,
            SPOS(seed=0),
            data(hold, kind="float64"),
            TrainSettings(epochs=2, batch_size=16),
            seed=1,
        )
        histories.append([training.run_epoch() for _ in range(2)])
    for first, second in zip(*histories, strict=True):
        assert {**first, "duration_s": 0} == {**second, "duration_s": 0}


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_scores_are_those_in_memory_wherever_the_images_lie(kind: str, tmp_path: Path) -> None:
    """In memory, streamed within the budget, and beyond it."""
    space, log = ModelSpace(Net), tmp_path / "log"
    scores, archs = [], [{"conv": "k1"}, {"conv": "k3"}]
    for hold, most in (("memory", 2**30), ("stream", 2**30), ("stream", 100)):
        log.write_bytes(b"")
        splits = data(hold, kind=kind, log=log).load()
        scorer = SubnetScorer(
            space.supernet(), splits.train, splits.valid, calibration_images=40, hold_bytes=most
        )
        began = os.path.getsize(log)
        assert began < 2 * (48 + 32) + 10
        scores.append([scorer.score(arch) for arch in archs])
        assert os.path.getsize(log) == began, "scoring decodes nothing any more"
    assert scores[0] == scores[1] == scores[2]


def test_what_is_beyond_the_budget_lies_in_a_file_without_a_name() -> None:
    split = split_of(data("stream").load().valid)
    index = [5, 3, 3, 30]
    small, targets = read_once(split, index, 10**6)
    large, again = read_once(split, index, 0)
    assert torch.equal(small, large)
    assert torch.equal(targets, again)
    assert targets.tolist() == [5 % 3, 0, 0, 0]
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert "examples (deleted)" in maps.read_text()
    del large


def test_a_search_on_streamed_data_finds_what_one_in_memory_does(tmp_path: Path) -> None:
    tables = []
    for hold in ("memory", "stream"):
        run = raynas.search(
            Net,
            "grid",
            data=(Drawn(48, 0), Drawn(32, 1)),
            data_options={"hold": hold, "loader_workers": 0},
            evaluator=("shared", {"hold_mb": 1}),
            epochs=2,
            out=str(tmp_path / hold),
            ray=INLINE,
        )
        tables.append(run.trials[["arch_key", "accuracy", "loss"]])
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_a_budget_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match="hold_mb must be a whole number of at least 1"):
        raynas.evaluators.Shared(hold_mb=value)
