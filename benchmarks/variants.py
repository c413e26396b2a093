"""The same training in other precisions and layouts, and DARTS with partial channels.

One thread. Seconds are CPU seconds of this process, variants interleaved, the least of the rounds;
memory is what the steps add to the resident set of a process of their own (Linux only).
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

import raynas
from raynas.core.config import ComponentSpec
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.setup.algorithms import supernet_space
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining


@dataclass(frozen=True)
class Variant:
    """A one-shot algorithm on a space, and how it trains."""

    space: str
    algo: str
    batch: int
    options: Mapping[str, Any] = field(default_factory=dict)  # of the space
    settings: Mapping[str, Any] = field(default_factory=dict)

    def step(self) -> Callable[[], None]:
        """Return what does one step, on noise."""
        space = raynas.space(self.space, **self.options)
        rng = torch.Generator().manual_seed(0)
        x = torch.randn((2 * self.batch, *space.example_input().shape[1:]), generator=rng)
        y = torch.arange(len(x)) % 10
        halves = [(x[half::2], y[half::2]) for half in (0, 1)]
        data = TensorData((TensorDataset(*halves[0]), TensorDataset(*halves[1])))
        settings = TrainSettings(epochs=1, batch_size=self.batch, **self.settings)
        torch.manual_seed(0)
        supernet = supernet_space(space, ComponentSpec(name=self.algo)).supernet()
        algo = ONE_SHOTS[self.algo](seed=0)
        run = SupernetTraining(supernet, algo, data, settings)
        run.model.train()

        def step() -> None:
            algo.step(halves[0], itertools.repeat(halves[1]))
            run.step += 1

        return step


SMALL = Variant("darts_cifar", "darts", 16, {"layers": 3})
PATHS = Variant("mobilenet_v2_cifar", "spos", 64)
LARGE = Variant("darts_cifar", "darts", 16, {"layers": 8})
BFLOAT16, FIRST = {"precision": "bfloat16"}, {"channels_last": False}
TABLES = [
    {
        f"{base.algo} on {base.space}, float32": base,
        "the same in bfloat16": replace(base, settings=BFLOAT16),
        "the same with channels first": replace(base, settings=FIRST),
    }
    for base in (SMALL, PATHS)
]
TABLES.append({"darts on 8 cells": LARGE, "pc_darts on 8 cells": replace(LARGE, algo="pc_darts")})


def seconds(table: Mapping[str, Variant], rounds: int) -> dict[str, float]:
    """Return the CPU seconds of a step of every variant."""
    steps = {name: variant.step() for name, variant in table.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):  # the first warms up
        for name, step in steps.items():
            began = time.process_time()
            step()
            if turn:
                found[name].append(time.process_time() - began)
    return {name: min(taken) for name, taken in found.items()}


def peak_mb() -> float:
    """Return the most memory that this process has held; getrusage would count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def memory_mb(variant: Variant) -> float:
    """Return by how much two steps raise the peak."""
    torch.set_num_threads(1)
    step, before = variant.step(), peak_mb()
    step()
    step()
    return peak_mb() - before


def main() -> None:
    """Print seconds and memory of every variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    fresh = multiprocessing.get_context("spawn")
    for table in TABLES:
        taken = seconds(table, rounds)
        first = next(iter(taken.values()))
        for name, variant in table.items():
            with fresh.Pool(1) as pool:
                added_mb = pool.apply(memory_mb, (variant,))
            ratio = taken[name] / first
            print(f"{name:<44} {taken[name]:6.3f} s {ratio:5.2f}x {added_mb:6.0f} MB", flush=True)


if __name__ == "__main__":
    main()
