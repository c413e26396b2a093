"""Trainings on Ray that lose ranks in the middle, and learn what others learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ray.exceptions import OutOfMemoryError, RayActorError
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
from raynas.supernet import job, network_job

KIND, OUT = sys.argv[1], Path(sys.argv[2])
SEEN = OUT.parent / f"{OUT.name}_seen"
SEEN.mkdir()
ALONE, NETWORK = KIND.startswith("alone"), KIND.endswith("network")

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
        # one after every epoch, in the process that trains
        job.CHECKPOINT_S = network_job.CHECKPOINT_S = -1.0
        return super().load()

    def augment(self, x, rng):
        (SEEN / str(os.getpid())).touch()
        if not ALONE:
            time.sleep(0.5)
        if KIND == "faulty":
            raise ArithmeticError("as planned")
        if KIND == "doomed network":
            os.kill(os.getpid(), signal.SIGKILL)
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
    given = dict(
        data=Slow(), epochs=6, seed=3, out=str(OUT), progress=progress,
        ray={"train_workers": ranks, "cpus_per_train_worker": 1, **ray},
    )
    options = {"sync_batch_norm": True}
    if NETWORK:
        raynas.retrain({"first": 1}, space=Net, options=options, **given)
    else:
        raynas.train_supernet(Net, "spos", options={"warm_start_steps": 2, **options}, **given)

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


def numbers(file: Path) -> dict[str, float]:
    """Return what a file of JSON has of numbers, by their names."""
    named = json.loads(file.read_text()).items()
    return {name: value for name, value in named if isinstance(value, int | float)}


@pytest.mark.full
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("what", ["", " network"], ids=["supernet", "retraining"])
def test_a_training_that_loses_ranks_goes_on_with_others(what: str, tmp_path: Path) -> None:
    """Each epoch's row is there once, and is that of one undisturbed process.

    Sums of float32 are in another order.
    """
    history, said = trained(f"killed{what}", tmp_path / "killed")
    alone, _ = trained(f"alone{what}", tmp_path / "alone")
    assert list(history["epoch"]) == list(alone["epoch"]) == [*range(EPOCHS)]
    for name in {"loss", "valid_loss"} & {*alone.columns}:
        assert list(history[name]) == pytest.approx(list(alone[name]), rel=1e-4)
    assert said.count("a training process was lost; going on from epoch") == 2
    assert "with 2 of 2" in said
    if what:
        found, expected = (
            numbers(tmp_path / name / "metrics.json") for name in ("killed", "alone")
        )
        assert "valid_accuracy" in expected
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_a_retraining_that_loses_its_ranks_again_and_again_fails_by_name(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="training failed: processes were lost 5 times before"):
        trained("doomed network", tmp_path / "doomed")


@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_an_error_of_ones_own_ends_a_training_at_once(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="supernet training failed: as planned"):
        trained("faulty", tmp_path / "faulty")


DEAD = WorkerHealthCheckFailedError("it is silent", RayActorError())
FULL = OutOfMemoryError("2 worker(s) were killed due to the node running low on memory.\nTop 10: …")
MISSES = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]")
OWN = ArithmeticError("as planned")


@pytest.mark.parametrize(
    ("errors", "lost"),
    [
        ([DEAD], 1),
        ([DEAD, MISSES], 1),
        ([DEAD, DEAD], 2),
        ([FULL, WorkerHealthCheckFailedError("it is silent", FULL)], 2),
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
    assert lost_processes(FULL) == 1


@pytest.mark.parametrize("failure", [FULL, WorkerGroupError("failed", {0: FULL})])
def test_processes_that_ray_ends_for_want_of_memory_are_told_in_a_sentence(
    failure: Exception,
) -> None:
    assert cause(failure) == "Ray ended processes of a node that ran out of memory"
