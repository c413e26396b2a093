"""Architectures trained on their own: plainly in this process, and stopped early through Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.errors import StoreMismatch
from raynas.core.evaluator import Budget, Measurement
from raynas.core.goals import goals_of
from raynas.core.sampler import Sampler
from raynas.core.study import Study, StudyInfo
from raynas.core.train_settings import TrainSettings
from raynas.core.trial import Trial
from raynas.data.digits import Digits
from raynas.data.module import DataModule, Splits
from raynas.data.split import split_of
from raynas.evaluators import Standalone
from raynas.evaluators.loaded import Loaded
from raynas.evaluators.networks import NetworkTrainer
from raynas.supernet.network_training import NetworkTraining
from tests.toynet import ToyNet

DATA = Digits()


class Few(DataModule):
    """The first few digits."""

    name, input_shape, num_classes, batch_size = "few", (1, 16, 16), 10, 16

    def load(self) -> Splits:
        """Return 64 digits to train on and 50 to validate."""
        splits = DATA.load()
        (x, y), (xv, yv) = splits.train, splits.valid
        return Splits((x[:64], y[:64]), (xv[:50], yv[:50]))

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Add noise."""
        return x + 0.01 * torch.randn(x.shape, generator=rng)


def net() -> nn.Module:
    """Return a small network with all that draws or remembers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(4 * 14 * 14, 10),
        )  # fmt: skip


# --- the loop -------------------------------------------------------------------------------------


def test_a_training_depends_on_its_seed_alone() -> None:
    def run(seed: int) -> list[float]:
        training = NetworkTraining(net(), Few(), TrainSettings(epochs=2), seed=seed)
        rows = [training.run_epoch() | training.validate() for _ in range(2)]
        return [*rows[0].values(), *rows[1].values()]

    first, state = run(1), torch.get_rng_state()
    torch.rand(5)
    assert run(1) == first != run(2)
    torch.set_rng_state(state)
    run(1)
    assert torch.equal(torch.get_rng_state(), state), "the global state is left alone"


def test_the_first_steps_are_those_of_sgd() -> None:
    class Plain(Few):
        def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
            return x

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        line = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    weight, bias = (p.detach().clone().double() for p in line.parameters())
    settings = TrainSettings(
        epochs=1, batch_size=32, lr=0.1, momentum=0.0, weight_decay=0.01, label_smoothing=0.0,
        clip=None,
    )  # fmt: skip
    training = NetworkTraining(line, Plain(), settings, seed=3)
    assert training.steps == 2
    training.run_epoch()
    x, y = Plain().load().train
    order = np.random.default_rng([3, 0]).permutation(64)
    for step, lr in ((0, 0.1), (1, 0.05)):  # half a cosine over two steps
        index = torch.from_numpy(order[32 * step : 32 * step + 32])
        images, target = x[index].flatten(1).double(), nn.functional.one_hot(y[index], 10).double()
        gap = (images @ weight.T + bias).softmax(1) - target
        weight = weight - lr * (gap.T @ images / 32 + 0.01 * weight)
        bias = bias - lr * (gap.mean(0) + 0.01 * bias)
    torch.testing.assert_close(training.model[1].weight.double(), weight, rtol=1e-4, atol=1e-6)  # type: ignore[index]
    torch.testing.assert_close(training.model[1].bias.double(), bias, rtol=1e-4, atol=1e-6)  # type: ignore[index]


def test_validation_is_of_the_whole_split_in_evaluation_mode() -> None:
    training = NetworkTraining(net(), Few(), TrainSettings(epochs=1), seed=0)
    training.run_epoch()
    found = training.validate()
    x, y = Few().load().valid
    with torch.no_grad():
        logits = training.model.eval()(x)
    assert found["accuracy"] == float((logits.argmax(1) == y).double().mean())
    assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-5)
    assert training.validate(split_of((x[:7], y[:7]))) != found


def test_a_loss_that_is_no_number_is_said() -> None:
    training = NetworkTraining(net(), Few(), TrainSettings(epochs=1, lr=1e30, clip=None))
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 0; try a lower"):
        training.run_epoch()
    with pytest.raises(ValueError, match="batch_size 65 is larger than the 64 training examples"):
        NetworkTraining(net(), Few(), TrainSettings(batch_size=65))


# --- what the study makes of fewer epochs ---------------------------------------------------------


class InOrder(Sampler):
    """Asks for what it was given, twice, and remembers what it was told."""

    startup = None

    def __init__(self) -> None:
        self.archs = [raynas.Arch({"x": x}) for x in range(3)] * 2
        self.told: list[Trial] = []

    def ask(self) -> raynas.Arch:
        """Return the next."""
        return self.archs.pop(0)

    def tell(self, trial: Trial) -> None:
        """Remember it."""
        self.told.append(trial)


def test_a_stopped_training_is_completed_but_never_compared() -> None:
    """The one that was stopped after one of three epochs has the highest accuracy of all."""
    rows: list[Trial] = []
    sampler = InOrder()
    setting = StudyInfo(algo="listed", evaluator="standalone", epochs=3)
    study = Study(
        sampler, goals_of({"accuracy": "max"}), trials=6, setting=setting, sink=rows.extend
    )
    for epochs, accuracy in ((3, 0.5), (1, 0.9), (3, 0.7)):
        asked = study.ask()
        assert asked is not None
        study.tell([(asked, Measurement(metrics={"accuracy": accuracy}, epochs=epochs))])
    assert study.ask() is None
    assert study.best is not None
    assert study.best.arch == {"x": 2}
    assert [row.epochs for row in rows] == [3, 1, 3] * 2
    assert [row.status for row in rows] == ["completed"] * 3 + ["duplicate"] * 3
    assert [row.objective for row in rows] == [0.5, None, 0.7] * 2
    assert [row.scores for row in rows[:3]] == [(0.5,), (), (0.7,)]
    assert [row.metrics["accuracy"] for row in sampler.told[:3]] == [0.5, 0.9, 0.7]


# --- through Ray ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> raynas.Result:  # noqa: ARG001 - a fixture asks for another
    """Ten architectures of a user's own model, of which weak ones are stopped after an epoch."""
    return raynas.search(
        ToyNet,
        "random",
        evaluator=("standalone", {"reduction_factor": 2, "batch_size": 64, "lr": 0.1}),
        epochs=3,
        trials=10,
        out=str(tmp_path_factory.mktemp("alone")),
    )


def test_weak_ones_are_stopped_and_strong_ones_trained_to_the_end(run: raynas.Result) -> None:
    table = run.trials
    assert len(table) == 10 == table["arch_key"].nunique()
    assert set(table["status"]) == {"completed"}
    assert set(table["evaluator"]) == {"standalone"}
    counts = table["epochs"].value_counts()
    # compared after 1 and 2 epochs: the first always goes on; that all ten do, if the order is as
    # good as random, takes nine to be at least the median of those before: 0.2 %
    assert set(counts.index) <= {1, 2, 3}
    assert counts[3] >= 1
    assert counts.drop(3).sum() >= 1
    assert table["objective"].notna().equals(table["epochs"] == 3)
    assert table[["accuracy", "loss", "params", "macs"]].notna().all(axis=None)
    full = table[table["epochs"] == 3]
    assert run.best.metrics["accuracy"] == full["accuracy"].max()
    assert set(run.top(10)["trial"]) == set(full["trial"])
    assert 1 <= len(set(table["worker"])) <= 2, "processes outlive subnets"
    # ten classes: untrained networks are right on 10 %
    assert run.best.metrics["accuracy"] > 0.2


def test_what_a_worker_trained_is_what_this_process_trains(run: raynas.Result) -> None:
    options = run.config.evaluator.options
    assert (options["epochs"], options["reduction_factor"]) == (3, 2.0)
    data = Loaded(DATA, torch.device("cpu"))
    trainer = NetworkTrainer(Standalone(**options), raynas.ModelSpace(ToyNet), data, 3)
    row = run.trials[run.trials["epochs"] == 3].iloc[0]
    (found,) = trainer([raynas.Arch.from_json(row["arch"])], Budget(), 0)
    # not to the last bit: arrays that lie elsewhere in memory may take another vector kernel
    assert found.metrics["loss"] == pytest.approx(row["loss"], rel=1e-2)
    assert found.epochs == 3


def test_a_resumed_run_wants_the_same_epochs(run: raynas.Result) -> None:
    with pytest.raises(StoreMismatch, match=r"was run with evaluator standalone .*'epochs': 3"):
        raynas.search(ToyNet, "random", evaluator="standalone", epochs=2, out=run.path, resume=True)


class Scripted:
    """A training whose accuracy is the network's size, and which fails for small ones."""

    epochs, metrics, stopping = 2, ("accuracy",), None

    def train_epochs(self, net: nn.Module, data: Any, seed: int) -> Iterator[dict[str, float]]:
        """Yield twice; the second time no number for small networks, and late for the largest."""
        size = float(sum(p.numel() for p in net.parameters()))
        for epoch in range(2):
            time.sleep(2.5 if size == LARGEST else 0.0)
            yield {"accuracy": math.nan if epoch == 1 and size < SMALL else size}


# parameters: 96 or 224 of the first layer, 88, 600 or 1624 of each other, 90 of the classifier
LARGEST, SMALL = 224 + 2 * 1624 + 90, 1000
SMALL_ONES = 4  # 362, 490 and twice 874


@pytest.mark.usefixtures("local_ray")
def test_an_object_that_trains_without_stopping(tmp_path: Path) -> None:
    """The time limit is of the whole training: no epoch of the largest takes as long."""
    table: pd.DataFrame = raynas.search(
        ToyNet, "random", evaluator=Scripted(), trials=18, out=str(tmp_path), ray={"timeout_s": 4}
    ).trials
    fine, failed = (table[table["status"] == status] for status in ("completed", "failed"))
    late = failed["error"].str.contains("took longer than 4 s")
    assert len(fine) == 18 - SMALL_ONES - 1
    assert list(fine["epochs"].unique()) == [2]
    assert fine["objective"].equals(fine["accuracy"])
    assert list(failed["choice.first"][late]) == ["k5"]
    assert list(failed["epochs"][~late]) == [1] * SMALL_ONES
    assert (failed["error"][~late] == "ValueError: metric 'accuracy' is nan").all()
