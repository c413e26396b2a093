"""Streaming against memory: an epoch's time on the same images, and memory that stays flat.

The first ratio is that of training epochs, two loader processes reading the images that the other
side holds as tensors, in the same order and to the same losses. Then a process whose memory is
limited after an epoch streams on, from a data set of four times the limit; its resident memory is
looked at after every epoch.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.supernet.network_training import NetworkTraining

COUNT, SIZE, BATCH = 2048, 32, 128
GOAL_RATIO, LIMIT_MB, TIMES = 1.15, 256, 4


class Images(Dataset[tuple[Tensor, int]]):
    """Images that are drawn when they are read, as a decoder would give them."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        pixels = np.random.default_rng(at).integers(0, 256, (3, self.size, self.size), np.uint8)
        return torch.from_numpy(pixels), at % 10


def net() -> nn.Module:
    """Return a small convolutional network."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def training(hold: Literal["memory", "stream"]) -> NetworkTraining:
    """Return a training on the images, held in memory or streamed."""
    data = (Images(COUNT, SIZE), Images(256, SIZE))
    options: dict[str, Any] = {} if hold == "memory" else {"loader_workers": 2}
    module = TensorData(data, hold=hold, batch_size=BATCH, **options)
    return NetworkTraining(net(), module, TrainSettings(epochs=100), seed=0)


def ratio(epochs: int) -> None:
    """Print how long a streamed epoch takes over one in memory, medians of several in turn."""
    both = {"memory": training("memory"), "stream": training("stream")}
    times: dict[str, list[float]] = {hold: [] for hold in both}
    for at in range(epochs + 1):
        losses = {}
        for hold, run in both.items():
            began_s = time.perf_counter()
            losses[hold] = run.run_epoch()["loss"]
            if at:  # the first one starts the loader's processes
                times[hold].append(time.perf_counter() - began_s)
        assert losses["memory"] == losses["stream"], losses
    medians = {hold: statistics.median(values) for hold, values in times.items()}
    for hold, median_s in medians.items():
        print(f"{hold:<8} {median_s:6.2f} s an epoch of {COUNT} images of {SIZE} x {SIZE}")
    print(f"ratio: {medians['stream'] / medians['memory']:.2f} (goal {GOAL_RATIO:g})")


def limited() -> None:
    """Stream a data set of several times the memory that the process may add after an epoch."""
    count = TIMES * LIMIT_MB * 2**20 // (3 * 64 * 64)
    data = TensorData((Images(count, 64), Images(64, 64)), hold="stream", batch_size=BATCH)
    small = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(48, 10))
    run = NetworkTraining(small, data, TrainSettings(epochs=3), seed=0)
    run.run_epoch()  # threads and their stacks are there from now on
    began_mb = resident_mb()
    limit = int((virtual_mb() + LIMIT_MB) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    seen = []
    for _ in range(2):
        run.run_epoch()
        seen.append(resident_mb() - began_mb)
    print(json.dumps({"count": count, "added_mb": seen}))


def resident_mb() -> float:
    """Return this process' resident memory."""
    return _status_mb("VmRSS")


def virtual_mb() -> float:
    """Return this process' address space."""
    return _status_mb("VmSize")


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limited", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.limited:
        limited()
        return
    ratio(given.epochs)
    ran = subprocess.run(
        [sys.executable, __file__, "--limited"], check=True, text=True, stdout=subprocess.PIPE
    )
    told = json.loads(ran.stdout.splitlines()[-1])
    added = ", ".join(f"{mb:.0f}" for mb in told["added_mb"])
    print(
        f"memory: {told['count']} images of 64 x 64 ({TIMES} times a limit of {LIMIT_MB} MB) "
        f"streamed; MB added after each epoch: {added}"
    )


if __name__ == "__main__":
    main()
