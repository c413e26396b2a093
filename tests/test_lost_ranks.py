"""Trainings on Ray that lose ranks in the middle, and learn what others learn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)

from raynas.cluster.lost_processes import cause, could_not_start, lost_processes

EPOCHS = 6
TRAINING = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import TensorDataset
import raynas
from raynas.core.progress import Progress
from raynas.data.tensor_data import TensorData
from raynas.supernet import job

KIND, OUT = sys.argv[1], Path(sys.argv[2])
SEEN = OUT.parent / f"{OUT.name}_seen"
SEEN.mkdir()
ALONE = KIND == "alone"

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(1, 3, kernel, padding=kernel // 2) for kernel in (1, 3)]
        choices = [nn.Sequential(layer, nn.BatchNorm2d(3), nn.ReLU()) for layer in layers]
        self.first = raynas.nn.LayerChoice(choices, label="first")
        self.head = nn.Linear(48, 3)

    def forward(self, x):
        return self.head(self.first(x).flatten(1))

class Slow(TensorData):
    def __init__(self):
        rng = torch.Generator().manual_seed(0)
        x, y = torch.randn(56, 1, 4, 4, generator=rng), torch.arange(56) % 3
        super().__init__((TensorDataset(x[:32], y[:32]), TensorDataset(x[32:], y[32:])))
        self.batch_size = 16

    def load(self):
        job.CHECKPOINT_S = -1.0  # one after every epoch, in the process that trains
        return super().load()

    def augment(self, x, rng):
        (SEEN / str(os.getpid())).touch()
        if not ALONE:
            time.sleep(0.5)
        if KIND == "faulty":
            raise ArithmeticError("as planned")
        return x + 0.1 * torch.randn(x.shape, generator=rng)

class News(Progress):
    def __init__(self, events=()):
        self.events = dict(events)

    def phase(self, text):
        print(text, flush=True)

    def trained(self, row, epochs):
        event = self.events.pop(int(row["epoch"]), None)
        if event is not None:
            event()

def train(progress, ranks="1-2", **ray):
    raynas.train_supernet(
        Net, "spos", data=Slow(), epochs=6, seed=3, out=str(OUT), progress=progress,
        options={"warm_start_steps": 2, "sync_batch_norm": True},
        ray={"train_workers": ranks, "cpus_per_train_worker": 1, **ray},
    )

def kill_a_rank():
    newest = max(SEEN.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.kill(int(newest.name), signal.SIGKILL)

if ALONE:
    train(News(), 1, inline=True)
else:
    train(News({1: kill_a_rank, 3: kill_a_rank}), num_cpus=2)
"""


def trained(kind: str, out: Path) -> tuple[pd.DataFrame, str]:
    """Return the history of a training in a process of its own, and what it said."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, kind, str(out)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return pd.read_parquet(out / "history"), done.stdout


def check_same(history: pd.DataFrame, tmp_path: Path) -> None:
    """Check each epoch's row, there once, against those of one undisturbed process.

    Sums of float32 are in another order.
    """
    alone, _ = trained("alone", tmp_path / "alone")
    assert list(history["epoch"]) == list(alone["epoch"]) == [*range(EPOCHS)]
    assert list(history["loss"]) == pytest.approx(list(alone["loss"]), rel=1e-4)


@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_a_training_that_loses_ranks_goes_on_with_others(tmp_path: Path) -> None:
    history, said = trained("killed", tmp_path / "killed")
    check_same(history, tmp_path)
    assert said.count("a training process was lost; going on from epoch") == 2
    assert "with 2 of 2" in said


@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_an_error_of_ones_own_ends_a_training_at_once(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="supernet training failed: as planned"):
        trained("faulty", tmp_path / "faulty")


DEAD = WorkerHealthCheckFailedError("it is silent", RayActorError())
MISSES = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]")
OWN = ArithmeticError("as planned")


@pytest.mark.parametrize(
    ("errors", "lost"),
    [
        ([DEAD], 1),
        ([DEAD, MISSES], 1),
        ([DEAD, DEAD], 2),
        ([MISSES], 1),
        ([OWN], 0),
        ([OWN] * 2, 0),
    ],
)
def test_processes_that_were_lost_are_told_from_errors(errors: list[Exception], lost: int) -> None:
    failure = WorkerGroupError("failed", dict(enumerate(errors)))
    assert lost_processes(failure) == lost
    assert not could_not_start(failure)


def test_what_a_controller_fails_of_is_no_lost_process() -> None:
    full = ControllerError(OSError("no space left on device"))
    assert (lost_processes(full), could_not_start(full)) == (0, False)
    assert cause(full) == "no space left on device"
    late = ControllerError(WorkerGroupStartupTimeoutError(2))
    assert (lost_processes(late), could_not_start(late)) == (0, True)
    assert lost_processes(RayActorError()) == 1  # the controller's own process
