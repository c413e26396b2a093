"""Workers that are killed, and a node that is lost: what was told stays, the rest is done again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.progress import Progress
from raynas.data.module import DataModule, Splits
from raynas.supernet import network_job
from tests.inline import INLINE

KINDS = 6
PAUSE_S = 0.15  # in every batch, so that a kill meets an evaluation

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("ray")]


class Few(DataModule):
    """48 examples to train on, in batches of 24, and 24 to validate."""

    name, input_shape, num_classes, batch_size = "few", (1, 4, 4), 3, 24

    def load(self) -> Splits:
        """Return the splits; a training of one network here saves a checkpoint every epoch."""
        vars(network_job)["CHECKPOINT_S"] = -1.0
        rng = torch.Generator().manual_seed(0)
        x, y = torch.randn(72, 1, 4, 4, generator=rng), torch.arange(72) % 3
        return Splits((x[:48], y[:48]), (x[48:], y[48:]))


class Noted(nn.Module):
    """A convolution that notes every batch, with the process that it is in."""

    def __init__(self, kind: int, log: str) -> None:
        super().__init__()
        self.kind, self.log = kind, log
        self.conv = nn.Conv2d(1, 2 + kind, 3, padding=1)
        self.out = nn.Conv2d(2 + kind, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return three channels."""
        if len(x) > 1:  # one example is for the shapes alone
            with open(self.log, "a") as file:
                file.write(f"{self.kind} {os.getpid()}\n")
            time.sleep(PAUSE_S)
        maps: Tensor = self.out(self.conv(x).relu())
        return maps


class Net(nn.Module):
    """One choice between layers that note what they do."""

    def __init__(self, log: str) -> None:
        super().__init__()
        layers = [Noted(kind, log) for kind in range(KINDS)]
        self.kind = raynas.nn.LayerChoice(layers, label="kind")
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.kind(x).mean((2, 3)))
        return logits


class News(Progress):
    """Keeps what is said, and does something after an epoch."""

    def __init__(self, events: Mapping[int, Callable[[], None]] | None = None) -> None:
        self.lines: list[str] = []
        self._events = dict(events or {})

    def phase(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)

    def noted(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Do what is planned."""
        self._events.pop(int(row["epoch"]), lambda: None)()


def batches(log: Path) -> list[tuple[str, int]]:
    """Return kind and process of every batch so far in other processes."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    noted = [(kind, int(pid)) for kind, pid in (line.split() for line in lines)]
    return [(kind, pid) for kind, pid in noted if pid != os.getpid()]


def kill_newest(log: Path) -> None:
    """Kill the process of the last batch."""
    os.kill(batches(log)[-1][1], signal.SIGKILL)


def counted(
    log: Path, run: Callable[[], pd.DataFrame], *, kill: bool
) -> tuple[pd.DataFrame, Counter[str]]:
    """Return a run's rows by architecture, and how many batches each kind had."""

    def kill_at_the_third() -> None:
        while len({kind for kind, _ in batches(log)}) < 3:
            time.sleep(0.01)
        kill_newest(log)

    log.unlink(missing_ok=True)
    killer = Thread(target=kill_at_the_third, daemon=True)
    if kill:
        killer.start()
    rows = run()
    if kill:
        killer.join(60)
        assert not killer.is_alive()
    return rows.sort_values(["choice.kind", "seed"]), Counter(kind for kind, _ in batches(log))


def check_same(
    log: Path, disturbed: Callable[[], pd.DataFrame], quiet: Callable[[], pd.DataFrame]
) -> None:
    """Check that a kill costs the evaluation that it meets, and changes no row."""
    rows, with_kill = counted(log, disturbed, kill=True)
    expected, without = counted(log, quiet, kill=False)
    assert rows["status"].eq("completed").all()
    same = ["choice.kind", "seed", "accuracy", "loss"]
    pd.testing.assert_frame_equal(
        rows[same].reset_index(drop=True), expected[same].reset_index(drop=True)
    )
    again = with_kill - without
    assert len(again) <= 1, "others were evaluated again"
    assert all(again[kind] <= without[kind] for kind in again), "it was evaluated more than twice"
    assert not without - with_kill


def was_lost(news: News) -> list[str]:
    return [line for line in news.lines if "was lost (SIGKILL)" in line]


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("kind", ["shared", "standalone"])
def test_a_worker_that_is_killed_costs_what_it_evaluates(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_job, "CHECKPOINT_S", vars(network_job)["CHECKPOINT_S"])
    log, news = tmp_path / "log", News()
    net, given = partial(Net, str(log)), dict[str, Any](data=Few())
    if kind == "shared":
        supernet = str(tmp_path / "supernet")
        raynas.train_supernet(net, "spos", epochs=1, out=supernet, ray=INLINE, **given)
        given["supernet"] = supernet
    else:
        given["evaluator"] = ("standalone", {"epochs": 2, "early_stopping": False})

    def run(name: str) -> pd.DataFrame:
        ray = {"workers": 2, "batch": 1}
        out = str(tmp_path / name)
        found = raynas.search(net, "grid", trials=KINDS, out=out, ray=ray, progress=news, **given)
        assert sorted(found.trials["choice.kind"]) == [*range(KINDS)]
        return found.trials

    check_same(log, lambda: run("killed"), lambda: run("quiet"))
    assert len(was_lost(news)) == 1


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_is_killed_in_a_verification_costs_one_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_job, "CHECKPOINT_S", vars(network_job)["CHECKPOINT_S"])
    log, news = tmp_path / "log", News()

    def verified(name: str, ray: Mapping[str, Any]) -> Callable[[], pd.DataFrame]:
        out = tmp_path / name
        run = raynas.search(
            partial(Net, str(log)), "spos", epochs=1, trials=KINDS, data=Few(), out=str(out),
            ray=INLINE,
        )  # fmt: skip

        def verify() -> pd.DataFrame:
            run.verify(2, 2, options={"epochs": 2}, ray=ray, progress=news)
            folders = sorted(out.glob("verify/*/seed-*"))
            tables = [pd.concat(map(pd.read_parquet, f.glob("trials/part-*"))) for f in folders]
            rows = pd.concat(tables)
            assert len(rows) == 8 == len(rows[["choice.kind", "seed"]].drop_duplicates())
            return rows

        return verify

    on_ray = {"workers": 2, "batch": 1}
    check_same(log, verified("killed", on_ray), verified("quiet", on_ray))
    assert len(was_lost(news)) == 1


SEARCH = """
import os, sys, threading, time
from pathlib import Path
import ray
import raynas
from ray.cluster_utils import Cluster

out, log = Path(sys.argv[1]), Path(sys.argv[1], "begun")

def score(arch):
    with open(log, "a") as file:
        file.write(f"{arch['x']} {ray.get_runtime_context().get_node_id()}\\n")
    time.sleep(0.5)
    return float(arch["x"])

def begun():
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=cpus) for cpus in (1, 0, 0)]
config = raynas.RayConfig(address=cluster.address, workers=2, batch=1, timeout_s=300.0)
given = {"evaluator": score, "trials": 12, "out": str(out / "run"), "ray": config}
space = raynas.ArchSpace.of(x=[*range(12)])
search = threading.Thread(target=raynas.search, args=(space, "grid"), kwargs=given)
search.start()
while len({node for _, node in begun()}) < 2 or len(begun()) < 5:
    time.sleep(0.01)
for node in nodes:
    cluster.remove_node(node, allow_graceful=False)  # Ray wants the main thread for this
search.join()
cluster.shutdown()
"""


def test_nodes_that_are_lost_cost_what_they_evaluate(tmp_path: Path) -> None:
    """One of them evaluates. The clock of ``timeout_s`` stays, which Ray may put on any node: left
    to it, one run in four would have it where the driver is.
    """
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    subprocess.run(
        [sys.executable, "-c", SEARCH, str(tmp_path)], check=True, env=environment, timeout=600
    )
    trials = raynas.load(str(tmp_path / "run")).trials
    assert list(trials["accuracy"].sort_values()) == [float(x) for x in range(12)]
    counts = Counter(line.split()[0] for line in (tmp_path / "begun").read_text().splitlines())
    again = [x for x, count in counts.items() if count > 1]
    assert len(counts) == 12
    assert len(again) <= 1, "others than what was in flight there were evaluated again"
    assert all(counts[x] == 2 for x in again)
    log = (tmp_path / "run" / "logs" / "run.log").read_text()
    assert log.count(" was lost (node lost)") == log.count(" was lost (") == 1
