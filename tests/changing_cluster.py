"""Runs on a cluster whose nodes come and go: ``python -m tests.changing_cluster KIND FOLDER``.

The nodes are those of Ray's own ``cluster_utils``, on this machine. Each says what it does by a
line for every batch in ``FOLDER/batches``; the program prints what the run says.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import ray
import torch
from ray.cluster_utils import Cluster
from torch import Tensor, nn

import raynas
from raynas.core.progress import Progress
from raynas.data.module import DataModule, Splits
from raynas.supernet import job

KINDS = 4
PAUSE_S = 0.4  # in every batch, so that a loss meets a training
ABSENT_S = 5.0  # during which a cluster has too few nodes
PATIENCE_S = 300.0


class Few(DataModule):
    """32 examples to train on, in batches of 16, and 16 to validate."""

    name, input_shape, num_classes, batch_size = "few", (1, 4, 4), 3, 16

    def load(self) -> Splits:
        """Return the splits; a training of a supernet here saves a checkpoint every epoch."""
        vars(job)["CHECKPOINT_S"] = -1.0
        rng = torch.Generator().manual_seed(0)
        x, y = torch.randn(48, 1, 4, 4, generator=rng), torch.arange(48) % 3
        return Splits((x[:32], y[:32]), (x[32:], y[32:]))


class Noted(nn.Module):
    """A convolution that notes every batch, with process and node.

    Args:
        kind: tells it from the others.
        folder: for the notes; while ``hold`` is there, none goes on.
    """

    def __init__(self, kind: int, folder: str) -> None:
        super().__init__()
        self.kind, self.folder = kind, Path(folder)
        self.layers = nn.Sequential(nn.Conv2d(1, 2 + kind, 3, padding=1), nn.BatchNorm2d(2 + kind))
        self.out = nn.Conv2d(2 + kind, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return three channels."""
        if self.training and len(x) > 1 and ray.is_initialized():
            note(self.folder, self.kind)
            wait_until(lambda: not (self.folder / "hold").exists())
            time.sleep(PAUSE_S)
        maps: Tensor = self.out(self.layers(x).relu())
        return maps


class Net(nn.Module):
    """One choice between layers that note what they do."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        layers = [Noted(kind, folder) for kind in range(KINDS)]
        self.kind = raynas.nn.LayerChoice(layers, label="kind")
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.kind(x).mean((2, 3)))
        return logits


def note(folder: Path, kind: int) -> None:
    """Note a batch, unless this is the program itself, which looks at shapes alone."""
    context = ray.get_runtime_context()
    if context.get_actor_id() is not None:
        with (folder / "batches").open("a") as file:
            file.write(f"{kind} {os.getpid()} {context.get_node_id()}\n")


def batches(folder: Path) -> list[tuple[str, str, str]]:
    """Return kind, process and node of every batch so far."""
    log = folder / "batches"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [(kind, pid, node) for kind, pid, node in (line.split() for line in lines)]


def wait_until(what: Callable[[], bool]) -> None:
    """Return when something is so.

    Raises:
        TimeoutError: it was not so for long.
    """
    end_s = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(0.05)


class Nodes(Progress):
    """A cluster, of which nodes come and go at what is said of a run.

    Ray wants the main thread for this, so that the run has another one. Nodes come only once the
    run is connected, since it would take any node of this machine for its own.

    Args:
        cpus: of the head.
        on_epoch: what to do after epochs of a training.
        on_loss: what to do when a process was lost.
        memory: of the head, in bytes; None takes what this machine has.
    """

    def __init__(
        self,
        cpus: int,
        on_epoch: Mapping[int, Callable[[Nodes], None]] | None = None,
        on_loss: Callable[[Nodes], None] = lambda _: None,
        memory: int | None = None,
    ) -> None:
        head = {"num_cpus": cpus, "include_dashboard": False}
        if memory is not None:
            head["memory"] = memory
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self._on_epoch, self._on_loss = dict(on_epoch or {}), on_loss
        self._wishes = Queue[Callable[[Nodes], None]]()
        self._others: list[Any] = []

    def phase(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)
        if " lost" in text:
            self._wishes.put(self._on_loss)

    def noted(self, text: str) -> None:
        """Print it."""
        self.phase(text)

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Do what is planned, once."""
        wish = self._on_epoch.pop(int(row["epoch"]), None)
        if wish is not None:
            self._wishes.put(wish)

    def add(self, cpus: int) -> None:
        """Add a node."""
        print(f"a node of {cpus} CPU comes", flush=True)
        self._others.append(self.cluster.add_node(num_cpus=cpus))

    def lose(self) -> None:
        """End the newest node without notice."""
        node = self._others.pop()
        print("a node goes", flush=True)
        self.cluster.remove_node(node, allow_graceful=False)

    def during(self, run: Callable[[], None], begin: Callable[[Nodes], None]) -> None:
        """Run something; ``begin`` is called once it is connected."""
        thread = threading.Thread(target=run)
        thread.start()
        wait_until(ray.is_initialized)
        begin(self)
        while thread.is_alive():
            try:
                self._wishes.get(timeout=0.1)(self)
            except Empty:
                continue
        self.cluster.shutdown()


def train(folder: Path, progress: Progress, ranks: str, **ray_options: Any) -> None:
    """Train a supernet of six epochs."""
    raynas.train_supernet(
        lambda: Net(str(folder)),
        "spos",
        data=Few(),
        epochs=6,
        seed=3,
        out=str(folder / "run"),
        progress=progress,
        options={"sync_batch_norm": True},
        ray={"train_workers": ranks, **ray_options},
    )


def search(folder: Path, progress: Progress, **ray_options: Any) -> None:
    """Train four architectures for three epochs each."""
    raynas.search(
        lambda: Net(str(folder)),
        "grid",
        data=Few(),
        evaluator=("standalone", {"epochs": 3, "early_stopping": False, "sync_batch_norm": True}),
        trials=KINDS,
        seed=3,
        out=str(folder / "run"),
        progress=progress,
        ray=ray_options,
    )


# --- kinds: what is run, and what becomes of the nodes meanwhile ----------------------------------


def fixed(folder: Path) -> None:
    """Two ranks on two nodes, of which one goes, and another one comes after a while."""

    def come_late(nodes: Nodes) -> None:
        time.sleep(ABSENT_S)
        nodes.add(1)

    nodes = Nodes(1, {1: Nodes.lose}, on_loss=come_late)
    given = {"address": nodes.cluster.address, "cpus_per_train_worker": 1}
    nodes.during(lambda: train(folder, nodes, "2", **given), lambda each: each.add(1))


def ranged(folder: Path) -> None:
    """One to four ranks: a node for three comes in the first epoch, and goes after the third."""

    def come(nodes: Nodes) -> None:
        wait_until(lambda: bool(batches(folder)))
        nodes.add(3)
        wait_until(lambda: ray.available_resources().get("CPU", 0.0) >= 3)
        (folder / "hold").unlink()

    nodes = Nodes(1, {2: Nodes.lose})
    given = {"address": nodes.cluster.address, "cpus_per_train_worker": 1}
    (folder / "hold").touch()
    nodes.during(lambda: train(folder, nodes, "1-4", **given), come)


def nested(folder: Path, memory: int | None = None) -> None:
    """Two trainings of two ranks each, the second on a node that comes later, and goes.

    Args:
        folder: of the run.
        memory: of the head; one byte is for one evaluating process, so that the other one is on
            the node that goes.
    """

    def come_and_go(nodes: Nodes) -> None:
        wait_until(lambda: bool(batches(folder)))
        nodes.add(2)
        wait_until(lambda: len({node for _, _, node in batches(folder)}) == 2)
        (folder / "hold").unlink()
        time.sleep(3 * PAUSE_S)
        nodes.lose()

    nodes = Nodes(2, memory=memory)
    given = {"address": nodes.cluster.address, "cpus_per_train_worker": 1}
    ray_options = {"train_workers": 2, "workers": 2, **given}
    (folder / "hold").touch()
    nodes.during(lambda: search(folder, nodes, **ray_options), come_and_go)


def main() -> None:
    """Run what the command names; two kinds run without a cluster, to compare with."""
    torch.set_num_threads(1)
    kind, folder = sys.argv[1], Path(sys.argv[2])
    on_a_cluster = {"fixed": fixed, "ranged": ranged, "nested": nested}
    on_a_cluster["nested on both"] = partial(nested, memory=1)
    folder.mkdir()
    match kind:
        case "training":
            train(folder, Progress(), "1", inline=True)
        case "search":
            search(folder, Progress(), inline=True)
        case _:
            on_a_cluster[kind](folder)


if __name__ == "__main__":
    main()
