"""How much of the front between accuracy and a cost a search finds, task by task, with its spread.

One query is one look-up of both. What is measured is the hypervolume of all told after 50, 100 and
200 queries over that of the table's own front, above a reference point: the 25 % quantile of the
accuracy and the 95 % quantile of the cost. One line of a file is kept per run, so that a stopped
benchmark goes on. Printed are mean, 95 % interval and standard deviation over seeds, and the worst
seed; at the end the same over tasks.

Tasks are written ``table/cost``: ``macro`` with ``flops`` or ``params``; ``cells_cifar10``,
``cells_cifar100`` and ``cells_imagenet16`` with ``macs``, ``params`` or any column of the table of
latencies (``lat_raspi4``); and a synthetic surface of eight choices of four, ``additive``,
``interactions`` or ``shared``, with ``cost``, a sum over options, both drawn anew for every seed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from _results import complete, runs_of, shown
from _tables import CELLS, MACRO, Surface, surface
from numpy.typing import NDArray

from raynas.core.arch import Arch
from raynas.core.objectives import hypervolume, pareto_mask
from raynas.core.sampler import SAMPLERS, Sampler, sampler_class
from raynas.core.trial import Trial
from raynas.results.analysis import Interval
from raynas.search_spaces.nas_bench_201 import LABELS
from raynas.supernet.blas import one_blas_thread

LATENCIES = "nasbench201_latency_help.parquet"
DEVICES = ("1080ti_1", "titan_rtx_256", "gold_6226", "raspi4", "pixel3", "eyeriss", "fpga")
TASKS = (
    "macro/flops", "macro/params",
    *(f"cells_{data}/macs" for data in ("cifar10", "cifar100", "imagenet16")),
    *(f"cells_cifar10/lat_{device}" for device in DEVICES),
    "cells_cifar100/lat_raspi4", "cells_imagenet16/lat_raspi4",
    "interactions/cost",
)  # fmt: skip
QUERIES = (50, 100, 200)
SHARES = [f"v{count}" for count in QUERIES]
KEYS = ("task", "sampler", "seed")
ACCURACY_QUANTILE, COST_QUANTILE = 0.25, 0.95  # the reference point
RESAMPLES = 2000


@dataclass(frozen=True)
class Task:
    """Accuracy and cost of every architecture of a space, and what their front is worth.

    Attributes:
        accuracy: to be maximised.
        saving: the negated cost, to be maximised as well.
        reference_2: the point that volumes lie above.
        volume: of the front of all architectures.
    """

    accuracy: Surface
    saving: Surface
    reference_2: NDArray[np.float64]
    volume: float

    @classmethod
    def of(cls, accuracy: Surface, cost_N: NDArray[np.float64]) -> Task:
        """Return the task of a surface and the cost of each of its architectures."""
        points_N2 = np.stack([accuracy.scores, -cost_N], axis=1)
        points_N2 = points_N2[np.argsort(-accuracy.scores)]  # most are beaten by the first few
        front_N2 = points_N2[pareto_mask(points_N2)]
        worst_2 = np.array(
            [np.quantile(accuracy.scores, ACCURACY_QUANTILE), -np.quantile(cost_N, COST_QUANTILE)]
        )
        saving = Surface(accuracy.space, -cost_N)
        return cls(accuracy, saving, worst_2, hypervolume(front_N2, worst_2))

    def at(self, arch: Arch) -> tuple[float, float]:
        """Return accuracy and saving of an architecture."""
        return self.accuracy.at(arch), self.saving.at(arch)


@lru_cache(maxsize=len(TASKS))
def table_task(name: str, data: Path) -> Task:
    """Return the task of a table, which is the same for every seed."""
    table, cost = name.split("/")
    accuracy = surface(table, data, seed=0)
    if table == "macro":
        frame = pd.read_parquet(data / MACRO).sort_values("arch")
    else:
        frame = pd.read_parquet(data / CELLS).sort_values(list(LABELS))
        if cost.startswith("lat_"):
            latencies = pd.read_parquet(data / LATENCIES, columns=["arch_str", cost])
            frame = frame.merge(latencies, on="arch_str", validate="one_to_one")
        else:
            cost = f"{cost}_{table.removeprefix('cells_')}"
    return Task.of(accuracy, frame[cost].to_numpy(float))


def drawn_task(name: str, data: Path, seed: int) -> Task:
    """Return a surface of a seed with a cost: of each option a log-normal share."""
    accuracy = surface(name.split("/")[0], data, seed)
    options = [len(decision.options) for decision in accuracy.space.decisions.values()]
    rng = np.random.default_rng([seed, 29])
    shares = [np.sort(rng.lognormal(size=count)) for count in options]
    cost = sum(share[index] for share, index in zip(shares, np.indices(options), strict=True))
    return Task.of(accuracy, np.ravel(cost))


def task(name: str, data: Path, seed: int) -> Task:
    """Return the task of a name that a seed searches."""
    made = name.endswith("/cost")
    return drawn_task(name, data, seed) if made else table_task(name, data)


def build(name: str, made: Task, seed: int) -> Sampler:
    """Return a sampler, told of two objectives if it takes several."""
    several = sampler_class(name).multi_objective
    options = {"objectives": ("accuracy", "cost")} if several else {}
    return SAMPLERS[name](made.accuracy.space, seed=seed, **options)


def one_run(name: str, made: Task, seed: int) -> dict[str, float]:
    """Return the shares of the front's volume after so many queries, and CPU ms a query."""
    sampler, scores = build(name, made, seed), []
    began = time.process_time()
    for _ in range(max(QUERIES)):
        arch = sampler.ask()
        scores.append(made.at(arch))
        sampler.tell(Trial.scored_as(arch, scores[-1]))
    cpu = (time.process_time() - began) / len(scores)
    volumes = [hypervolume(np.array(scores[:count]), made.reference_2) for count in QUERIES]
    shares = {key: round(v / made.volume, 5) for key, v in zip(SHARES, volumes, strict=True)}
    return shares | {"cpu_ms": round(cpu * 1000, 2)}


# --- what is printed ---


def line(runs_NQ: NDArray[np.float64]) -> str:
    """Return mean, interval, deviation and worst of runs' shares, for every number of queries."""
    rng = np.random.default_rng(0)
    picked = rng.integers(len(runs_NQ), size=(RESAMPLES, len(runs_NQ)))
    ends = np.quantile(runs_NQ[picked].mean(1), [0.025, 0.975], axis=0)
    cells = (
        f"{shown(Interval(mean, *end), digits=3):>24}{spread:7.3f}{worst:7.3f}"
        for mean, end, spread, worst in zip(
            runs_NQ.mean(0), ends.T, runs_NQ.std(0, ddof=1), runs_NQ.min(0), strict=True
        )
    )
    return "".join(cells)


def show(runs: pd.DataFrame, tasks: list[str], samplers: list[str]) -> None:
    """Print a line per task and sampler, and the means over tasks of each seed."""
    heads = "".join(f"{f'after {count}: mean':>24}{'sd':>7}{'worst':>7}" for count in QUERIES)
    print(f"{'task':30}{'sampler':12}{'runs':>4}{heads}{'ms':>6}")
    for name in tasks:
        for sampler in samplers:
            mine = runs[(runs.task == name) & (runs.sampler == sampler)]
            if len(mine) > 1:
                cpu = mine["cpu_ms"].mean()
                print(
                    f"{name:30}{sampler:12}{len(mine):4}{line(mine[SHARES].to_numpy())}{cpu:6.1f}"
                )
    for sampler in samplers:
        seeds = runs[runs.task.isin(tasks) & (runs.sampler == sampler)].groupby("seed")
        means = seeds[SHARES].mean()[seeds.size() == len(tasks)]
        if len(means) > 1:
            mean_of = f"mean of {len(tasks)} tasks"
            print(f"{mean_of:30}{sampler:12}{len(means):4}{line(means.to_numpy())}")


def main() -> None:
    """Run what is missing and print the table."""
    several = [name for name in sorted(SAMPLERS) if sampler_class(name).multi_objective]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real tables")
    parser.add_argument("--out", type=Path, default=Path("runs/hypervolume.csv"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--samplers", nargs="+", default=["random", *several])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only-show", action="store_true", help="run nothing")
    given = parser.parse_args()
    if not given.only_show:
        cases = [
            (name, sampler, seed)
            for seed in range(given.seeds) for name in given.tasks for sampler in given.samplers
        ]  # fmt: skip
        with one_blas_thread():
            complete(
                given.out, KEYS, cases,
                lambda name, sampler, seed: one_run(sampler, task(name, given.data, seed), seed),
            )  # fmt: skip
    runs = runs_of(given.out)
    show(runs[runs.seed < given.seeds], given.tasks, given.samplers)


if __name__ == "__main__":
    main()
