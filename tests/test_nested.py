"""Architectures that several ranks train together: the training itself, and the job around it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import torch.distributed as dist
from ray import tune
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.cluster.start_barrier import StartBarrier
from raynas.cluster.work_queue import WorkQueue
from raynas.cluster.worker import SubnetEvaluator, Task
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice
from raynas.core.evaluator import Evaluator, Measurement, SuccessiveHalving
from raynas.core.goals import Goals
from raynas.core.objectives import Objective
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule
from raynas.data.tensor_data import TensorData
from raynas.evaluators.spec import EvaluatorSpec, Worker
from raynas.supernet.network_training import NetworkTraining
from tests.ranks import on_two_ranks


def numbers(bad: bool = False) -> TensorData:
    """Return rows without augmentation, of three classes."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 6, generator=rng, dtype=torch.float64), torch.arange(60) % 3
    if bad:
        x[0] = math.nan
    return TensorData((TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:])))


def mlp(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()


def trained(seed: int) -> dict[str, Any]:
    """Train from the weights of a seed; the order of batches is always the same."""
    net = mlp(seed)
    settings = TrainSettings(epochs=3, batch_size=8, clip=0.5)
    run = NetworkTraining(net, numbers(), settings, seed=5)
    rows = [run.run_epoch() | run.validate() for _ in range(3)]
    return {"rows": rows, "weights": net.state_dict()}


def on_a_rank(rank: int) -> dict[str, Any]:
    """What each of two processes does and finds."""
    with pytest.raises(ValueError, match="batch_size 7 does not divide by 2 training workers"):
        NetworkTraining(mlp(0), numbers(), TrainSettings(batch_size=7))
    with pytest.raises(FloatingPointError, match="nan in epoch 0"):  # one rank's, raised by both
        NetworkTraining(mlp(0), numbers(bad=True), TrainSettings(batch_size=40)).run_epoch()
    return trained(seed=rank)


def test_two_ranks_with_half_the_batch_equal_one(tmp_path: Path) -> None:
    first, second = on_two_ranks(on_a_rank, tmp_path)
    alone = trained(seed=0)  # the first rank's weights hold for both
    for name, weight in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], weight, rtol=0, atol=1e-12)
    assert first["rows"] == second["rows"]
    for row, expected in zip(first["rows"], alone["rows"], strict=True):
        assert row == pytest.approx(expected, abs=1e-12)


LIMIT_S = 6.0


class Ranked:
    """Says what every epoch is like for every rank; architectures tell what goes wrong."""

    metrics = ("accuracy", "ranks", "weight")
    epochs = 4
    stopping = SuccessiveHalving(grace_epochs=1, reduction_factor=2)

    def __init__(self, killed: Path) -> None:
        self.killed = killed  # a file that is there once a rank was

    def train_epochs(
        self, net: nn.Module, data: DataModule, seed: int
    ) -> Iterator[dict[str, float]]:
        """Yield what is planned for the chosen layer, a sum over the ranks among it."""
        kind = str(net[0])  # type: ignore[index]
        if "Sigmoid" in kind and dist.get_rank() == 1 and not self.killed.exists():
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # the other rank's exchange breaks
        for epoch in range(self.epochs):
            ranks = torch.ones(())
            dist.all_reduce(ranks)
            if "Tanh" in kind:
                raise ArithmeticError("as planned")
            if "GELU" in kind:
                return
            good = 0.9 if "ReLU" in kind else 0.1
            rank = dist.get_rank()
            yield {"accuracy": good + epoch / 100 - rank, "ranks": float(ranks), "weight": seed}


class Planned(nn.Sequential):
    """A choice of five layers that have no weights, and one layer that has."""

    def __init__(self) -> None:
        layers = {"good": nn.ReLU(), "weak": nn.ELU(), "killed": nn.Sigmoid()}
        layers |= {"short": nn.GELU(), "fails": nn.Tanh()}
        super().__init__(raynas.nn.LayerChoice(layers, label="kind"), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        for layer in self:
            x = layer(x)
        return x


@pytest.mark.usefixtures("local_ray")
def test_a_search_trains_each_architecture_on_two_ranks(tmp_path: Path) -> None:
    """One job trains all, a failure ends it, and what comes next starts another.

    The time limit is below what the start of a job takes, and does not count it.
    """
    x, y = torch.randn(40, 6), torch.arange(40) % 3
    data = (TensorDataset(x, y), TensorDataset(x, y))
    found = raynas.search(
        Planned,
        "grid",
        data=data,
        evaluator=Ranked(tmp_path / "killed"),
        trials=5,
        seed=7,
        out=str(tmp_path),
        ray={"train_workers": 2, "cpus_per_train_worker": 1, "timeout_s": LIMIT_S},
    )
    rows = found.trials.set_index("choice.kind")
    assert rows["status"].to_dict() == {
        "good": "completed",
        "weak": "completed",
        "fails": "failed",
        "short": "failed",
        "killed": "completed",
    }
    assert (tmp_path / "killed").exists(), "a rank was killed, and its training tried again"
    epochs = {"good": 4, "weak": 1, "fails": 0, "short": 0}
    assert rows["epochs"].drop("killed").to_dict() == epochs
    assert rows["duration_s"].max() < LIMIT_S
    assert rows.loc["good", "accuracy"] == pytest.approx(0.93)  # the first rank's
    assert rows.loc["good", "ranks"] == 2
    assert rows.loc["good", "weight"] == 7
    errors = {kind: str(text) for kind, text in rows["error"].items()}
    assert errors["fails"].startswith("ArithmeticError: as planned (in train_epochs")
    assert "got None" in errors["short"]
    assert rows.loc["good", "params"] == 6 * 3 + 3
    assert not (tmp_path / "jobs").exists()


@pytest.mark.usefixtures("local_ray")
def test_ranks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    x, y = torch.randn(8, 6), torch.arange(8) % 2
    expected = r"train_workers: 3 processes of 1 CPU each: too much .* \(2 CPU, 0 GPU\)"
    with pytest.raises(ValueError, match=expected):
        raynas.search(
            Planned,
            "grid",
            data=(TensorDataset(x, y), TensorDataset(x, y)),
            evaluator=Ranked(tmp_path / "killed"),
            out=str(tmp_path),
            ray={"train_workers": 3},
        )


async def rest_and_work() -> None:
    queue = WorkQueue(2, idle_s=0.2)
    ready = asyncio.create_task(queue.ready())
    first = asyncio.create_task(queue.next_order(0))
    await asyncio.sleep(0.3)
    assert not ready.done(), "one rank of two waits; nothing is idle yet"
    second = asyncio.create_task(queue.next_order(1))
    assert await ready
    assert await queue.submit(("{}", 3))
    assert [await first, await second] == [("{}", 3)] * 2
    await asyncio.sleep(0.3)  # the ranks train, which may take long
    waiting = [asyncio.create_task(queue.next_order(rank)) for rank in (0, 1)]
    assert await queue.ready()
    assert await asyncio.gather(*waiting) == [None, None]
    assert not await queue.submit(("{}", 4))
    assert not await queue.ready()


def test_a_job_without_orders_ends_on_all_ranks() -> None:
    asyncio.run(rest_and_work())


async def told_and_left() -> None:
    queue = WorkQueue(2, idle_s=0.2)
    for answer in (True, False):
        await queue.put_result({"accuracy": 0.5})
        leaves = [asyncio.create_task(queue.goes_on(rank)) for rank in (0, 1)]
        if answer:
            await queue.go_on(True)
        assert await asyncio.gather(*leaves) == [answer] * 2
        await asyncio.sleep(0.3)  # with leave, the next epoch may take long
    assert [await queue.next_order(rank) for rank in (0, 1)] == [None, None]
    assert not await queue.ready()


def test_a_training_that_nobody_lets_go_on_ends_the_job() -> None:
    """Tune says nothing to a worker whose trial it stops, if it has no other for it."""
    asyncio.run(told_and_left())


async def told_of_the_end() -> tuple[bool, bool, object]:
    queue = WorkQueue(2)
    await queue.over("the training job failed")
    return await queue.ready(), await queue.submit(("{}", 0)), await queue.next_result()


def test_a_job_that_cannot_start_is_told() -> None:
    assert asyncio.run(told_of_the_end()) == (False, False, "the training job failed")


@dataclass(frozen=True)
class Trains(Evaluator):
    """Makes itself: an evaluator of trainings whose end leaves a file."""

    ended: Path

    def make(self, worker: Worker) -> Evaluator:
        return self

    def by_epoch(self, arch: Arch, seed: int) -> Generator[Measurement, None, None]:
        """Yield two epochs, and stay until the training is ended."""
        try:
            for epoch in (1, 2):
                yield Measurement(metrics={"accuracy": 0.5}, epochs=epoch)
        finally:
            self.ended.touch()


@pytest.mark.usefixtures("local_ray")
def test_a_training_ends_with_its_last_epoch_and_not_with_the_next_trial(tmp_path: Path) -> None:
    """What it holds may be what another worker waits for."""
    space = ArchSpace((Choice("kind", ("a", "b")),))
    trains = Trains(tmp_path / "ended")
    spec = EvaluatorSpec(name="trains", metrics=("accuracy",), make=trains.make, epochs=2)
    task = Task(
        spec=ray.cloudpickle.dumps(spec),
        arch_space=space,
        goals=Goals((Objective("accuracy"),)),
        seed=0,
        epochs=2,
        barrier=StartBarrier(1),
    )
    worker = tune.with_parameters(SubnetEvaluator, task=task)({"archs": "1"})
    assert not worker.train()["done"]
    assert not trains.ended.exists()
    assert worker.train()["done"]
    assert trains.ended.exists()
    worker.stop()
