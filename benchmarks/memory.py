"""How often a supernet's weights are in memory while several workers score its subnets.

Two supernets, one with weights of some hundred MB and one with next to none, are searched by the
same number of workers; the private memory of the worker processes is read from /proc meanwhile
(Linux only). If every worker had its own copy, it would differ by the weights' size.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import raynas
from raynas.cluster.connect import connected
from raynas.nn import LayerChoice
from raynas.supernet.checkpoint import save_checkpoint

WORKERS = 2


class Wide(nn.Module):
    """Twelve choices between six linear layers of ``width`` x ``width``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(256, width)
        self.layers = nn.ModuleList(
            LayerChoice([nn.Linear(width, width) for _ in range(6)]) for _ in range(12)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, 10)."""
        x = self.stem(x.flatten(1))
        for layer in self.layers:
            x = torch.relu(layer(x))
        logits: Tensor = self.head(x)
        return logits


def is_ours(process: Path) -> bool:
    """Return whether a process was begun by this one, or by one that was."""
    while process.name not in ("0", "1", str(os.getpid())):
        # the fields after the name, which may hold blanks: state, parent, ...
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        process = process.parent / parent
    return process.name == str(os.getpid())


def private_mb(seen: dict[int, list[float]]) -> None:
    """Note the private memory of each worker process that is there now."""
    for process in Path("/proc").iterdir():
        try:
            if b"SubnetEvaluator" not in (process / "cmdline").read_bytes():
                continue
            if not is_ours(process):
                continue
            lines = (process / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # no process, or one that has just ended
        kb = sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
        seen.setdefault(int(process.name), []).append(kb / 1024)


def measure(width: int, trials: int) -> tuple[float, list[float]]:
    """Return the weights' size and the workers' private memory, in MB."""
    space = raynas.ModelSpace(partial(Wide, width))
    model = space.supernet()
    size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    seen: dict[int, list[float]] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            private_mb(seen)

    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), model, {}, {"epoch": 0})
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            raynas.search(space, "random", supernet=folder, trials=trials, out=f"{folder}/run")
        finally:
            over.set()
            watcher.join()
    # a copy of the weights would be there all the time; activations come and go
    return size, sorted(min(readings[len(readings) // 2 :]) for readings in seen.values())


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1800)
    parser.add_argument("--trials", type=int, default=40)
    given = parser.parse_args()
    with connected(raynas.RayConfig(num_cpus=WORKERS)):
        _, small = measure(8, 20 * given.trials)  # quick ones: enough to be seen
        size, large = measure(given.width, given.trials)
    growth = [b - a for a, b in zip(small, large, strict=True)]
    print(f"weights: {size:.0f} MB, {WORKERS} workers")
    print(f"private memory of each worker: {', '.join(f'{mb:.0f}' for mb in large)} MB")
    print(f"more than with next to no weights: {', '.join(f'{mb:.0f}' for mb in growth)} MB")
    print(f"ratio: {max(growth) / size:.2f} of the weights per worker (a copy each: 1; goal 0.1)")


if __name__ == "__main__":
    main()
