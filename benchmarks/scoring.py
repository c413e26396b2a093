"""Subnets scored per second through ``raynas.search``, against the bare loop in one process.

The same supernet, data and recalibration in both; each worker has one torch thread. The bare loop
runs twice on one core, for random subnets before and after the search; the ratio is per core that
the search uses. First with random subnets, then with those of regularized evolution, of which the
search spares what earlier ones have computed, while the bare loop computes all of some of the same.
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
from raynas.core.evaluator import Budget
from raynas.data.digits import Digits
from raynas.evaluators.shared import SharedEvaluator
from raynas.supernet.checkpoint import find_checkpoint, load_shared

WIDTH = 0.25
WORKERS = 2
SOME = 60  # subnets of a bare loop
GOALS = {"random": 0.75, "regularized_evolution": 1.5}


def space() -> raynas.ModelSpace:
    """Return the demo's space."""
    return raynas.space("mobilenet_v2_cifar", in_channels=1, resolution=16, width=WIDTH)


def bare(checkpoint: Path, archs: list[raynas.Arch]) -> float:
    """Return subnets per second of a plain loop on one core, nothing kept between subnets."""
    torch.set_num_threads(1)
    weights = load_shared(checkpoint)
    settings = {"cache_bytes": 0}
    evaluator = SharedEvaluator(space(), Digits(), weights, seed=0, settings=settings)
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


def compare(algo: str, supernet: str, trials: int, goal: float) -> None:
    """Print the ratio of one search to bare loops over some of its subnets."""
    checkpoint, sampled = find_checkpoint(Path(supernet)), []
    rng = np.random.default_rng(0)
    if algo == "random":
        sampled = [space().arch_space.sample(rng) for _ in range(SOME)]
        before = bare(checkpoint, sampled)
    table = raynas.search(
        "mobilenet_v2_cifar",
        algo,
        supernet=supernet,
        trials=trials,
        space_options={"width": WIDTH},
        out=f"{supernet}/{algo}",
    ).trials
    if algo != "random":
        rows = table.sort_values("told_event")["arch"].iloc[:: max(trials // SOME, 1)]
        sampled = [raynas.Arch.from_json(text) for text in rows]
        before = bare(checkpoint, sampled)
    after = bare(checkpoint, sampled)
    loop, searched = (before + after) / 2, steady(table)
    busy = table["duration_s"].sum() / WORKERS
    span = (table["finished_utc"].max() - table["started_utc"].min()).total_seconds()
    counts = table["worker"].value_counts()
    print(f"bare loop on one core: {before:.1f} and {after:.1f} subnets/s")
    print(f"{algo} on {WORKERS} workers: {searched:.1f} subnets/s, busy {busy / span:.0%}")
    print(f"workers: {', '.join(f'{n} by {pid}' for pid, n in counts.items())}")
    print(f"ratio per core: {searched / WORKERS / loop:.2f} (goal {goal})")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    config = raynas.RayConfig(num_cpus=WORKERS)
    with tempfile.TemporaryDirectory() as folder, connected(config):
        supernet = raynas.train_supernet(
            "mobilenet_v2_cifar",
            epochs=given.epochs,
            out=folder,
            space_options={"width": WIDTH},
        )
        for algo, goal in GOALS.items():
            compare(algo, str(supernet), given.trials, goal)


if __name__ == "__main__":
    main()
