"""Subnets scored per second through ``raynas.search``, against the bare loop in one process.

The same supernet, data and recalibration in both; each worker has one torch thread. The bare loop
runs on one core, before and after the search; the ratio is per core that the search uses. Also
measured: how often the supernet's weights are in memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import raynas
from raynas.cluster.connect import connected
from raynas.cluster.evaluators import SharedEvaluator
from raynas.core.evaluator import Budget
from raynas.data.digits import Digits
from raynas.nn.weights import find_checkpoint, load_weights, to_arrays

WIDTH = 0.25
WORKERS = 2


def space() -> raynas.ModelSpace:
    """Return the demo's space."""
    return raynas.space("mobilenet_v2_cifar", in_channels=1, resolution=16, width=WIDTH)


def bare(checkpoint: Path, archs: list[raynas.Arch]) -> float:
    """Return subnets per second of a plain loop on one core."""
    torch.set_num_threads(1)
    evaluator = SharedEvaluator(space(), Digits(), to_arrays(load_weights(checkpoint)), seed=0)
    evaluator(archs[:3], Budget(), 0)
    started = time.perf_counter()
    evaluator(archs, Budget(), 0)
    return len(archs) / (time.perf_counter() - started)


def steady(table: pd.DataFrame) -> float:
    """Return subnets per second from the end of the workers' start to the last tell."""
    began = table.groupby("worker")["started_utc"].min().max()
    after = table[table["started_utc"] >= began]
    rate: float = len(after) / (table["finished_utc"].max() - began).total_seconds()
    return rate


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    arch_space = space().arch_space
    archs = [arch_space.sample(rng) for _ in range(60)]
    config = raynas.RayConfig(num_cpus=WORKERS)
    with tempfile.TemporaryDirectory() as folder, connected(config):
        options = {"width": WIDTH}
        supernet = raynas.train_supernet(
            "mobilenet_v2_cifar", epochs=given.epochs, out=folder, space_options=options
        )
        checkpoint = find_checkpoint(Path(supernet))
        before = bare(checkpoint, archs)
        table = raynas.search(
            "mobilenet_v2_cifar",
            "random",  # as the bare loop's: a search that learns may turn to quicker subnets
            supernet=supernet,
            trials=given.trials,
            space_options=options,
            out=f"{folder}/search",
        ).trials
        after = bare(checkpoint, archs)
    loop, searched = (before + after) / 2, steady(table)
    busy = table["duration_s"].sum() / WORKERS
    span = (table["finished_utc"].max() - table["started_utc"].min()).total_seconds()
    print(f"bare loop on one core: {before:.1f} and {after:.1f} subnets/s")
    print(f"raynas.search on {WORKERS} workers: {searched:.1f} subnets/s, busy {busy / span:.0%}")
    counts = table["worker"].value_counts()
    print(f"workers: {', '.join(f'{n} by {pid}' for pid, n in counts.items())}")
    print(f"ratio per core: {searched / WORKERS / loop:.2f} (goal 0.75)")


if __name__ == "__main__":
    main()
