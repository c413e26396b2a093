"""Samplers on all tables at hand: queries to the best network, one beside another.

One query is one look-up; a run ends at the best network or after ``BUDGET`` queries, and then
counts as ``BUDGET + 1``. One line of a file is kept per run, so that a stopped benchmark goes on.
Printed per table: mean queries to the best and to the best 0.1 % with bootstrap intervals, shares
of runs that found the best within 200 and the best 0.1 % within 100 queries, the mean regret after
50, 100 and 200; and what each further sampler needs over the first, on the same seeds.

Samplers are written ``name`` or ``name:option=value,option=value``.
"""

from __future__ import annotations

import argparse
import json
import runpy
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from _results import complete, runs_of
from _tables import SURFACES, Surface, surface
from numpy.typing import NDArray

from raynas.core.arch import Arch
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial
from raynas.supernet.blas import one_blas_thread

BUDGET = 300
REGRETS = (50, 100, 200)
KEYS = ("table", "sampler", "flying", "seed")
RESAMPLES = 2000


def build(text: str, surface: Surface, seed: int) -> Sampler:
    """Return the sampler of ``name:option=value``."""
    name, _, listed = text.partition(":")
    pairs = (pair.split("=", 1) for pair in listed.split(",") if pair)
    return SAMPLERS[name](surface.space, seed=seed, **{key: _value(text) for key, text in pairs})


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def scores_told(sampler: Sampler, surface: Surface, flying: int) -> Iterator[float]:
    """Yield scores as they are told, with so many in flight; the oldest is told first."""
    waiting: list[Arch] = []
    while True:
        while len(waiting) < flying:
            waiting.append(sampler.ask())
        arch = waiting.pop(0)
        score = surface.at(arch)
        sampler.tell(Trial.completed(arch, score))
        yield score


def one_run(name: str, surface: Surface, flying: int, seed: int) -> dict[str, float]:
    """Return the figures of one run."""
    top = surface.scores.max()
    good = np.partition(surface.scores, -_top_count(surface))[-_top_count(surface)]
    began, scores = time.process_time(), []
    for score in scores_told(build(name, surface, seed), surface, flying):
        scores.append(score)
        if score >= top or len(scores) == BUDGET:
            break
    cpu = (time.process_time() - began) / len(scores)
    curve = top - np.maximum.accumulate(scores)
    regrets = {f"r{n}": round(float(curve[min(n, len(curve)) - 1]), 5) for n in REGRETS}
    return {
        "best": _first(scores, top), "top": _first(scores, good), **regrets,
        "cpu_ms": round(cpu * 1000, 2),
    }  # fmt: skip


def _top_count(surface: Surface) -> int:
    return -(-len(surface.scores) // 1000)


def _first(scores: list[float], bound: float) -> int:
    return next((i for i, score in enumerate(scores, 1) if score >= bound), BUDGET + 1)


# --- the file of runs ---


def cases(given: argparse.Namespace) -> Iterator[tuple[str, str, int, int]]:
    """Yield what is run: all tables of a seed, then the next seed."""
    for seed in range(given.seeds):
        for table in given.tables:
            for name in given.samplers:
                for flying in given.flying:
                    yield table, name, flying, seed


@lru_cache(maxsize=1)
def surface_of(table: str, data: Path, seed: int) -> Surface:
    """Return the surface of a seed, which all its samplers search."""
    return surface(table, data, seed)


# --- what is printed ---


def interval(values: NDArray[np.float64]) -> str:
    """Return a mean over runs with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.1f} ({low:.1f}-{high:.1f})"


def ratio(runs: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio of two means, and of resampled ones; the pairs of a seed stay together."""
    rng = np.random.default_rng(0)
    picked = rng.integers(len(runs), size=(RESAMPLES, len(runs)))
    ratios = runs[picked].mean(1) / before[picked].mean(1)
    return np.concatenate([[runs.mean() / before.mean()], ratios])


def show(runs: pd.DataFrame, given: argparse.Namespace) -> None:
    """Print a line per table and sampler, and the means over tables."""
    first = (given.samplers[0], given.flying[0])
    heads = ("runs", "queries to the best", "to top 0.1 %", "best 200", "top 100")
    print(f"{'table':18}{'sampler':34}{'flying':>6}{heads[0]:>5}{heads[1]:>22}{heads[2]:>20}"
          f"{heads[3]:>10}{heads[4]:>9}" + "".join(f"{f'r{n}':>8}" for n in REGRETS)
          + f"{'ms':>6}  over the first")  # fmt: skip
    logs: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    for table in given.tables:
        base = _of(runs, table, *first)
        for name in given.samplers:
            for flying in given.flying:
                mine = _of(runs, table, name, flying)
                if len(mine):
                    compared = ""
                    if (name, flying) != first:
                        both = mine.index.intersection(base.index)
                        ratios = ratio(*(f.loc[both, "best"].to_numpy(float) for f in (mine, base)))
                        logs.setdefault((name, flying), []).append(np.log(ratios))
                        compared = _spread(ratios)
                    print(_line(table, name, flying, mine) + compared, flush=True)
    for (name, flying), values in logs.items():
        over = np.exp(np.mean(values, axis=0))
        worst = np.exp(max(value[0] for value in values))
        print(f"all {len(values)} tables: {name}, {flying} in flight, queries to the best over the "
              f"first's: {_spread(over)}, at worst {worst:.2f}")  # fmt: skip


def _of(runs: pd.DataFrame, table: str, name: str, flying: int) -> pd.DataFrame:
    mine = runs[(runs.table == table) & (runs.sampler == name) & (runs.flying == flying)]
    return mine.set_index("seed")


def _spread(ratios: NDArray[np.float64]) -> str:
    low, high = np.quantile(ratios[1:], [0.025, 0.975])
    return f"{ratios[0]:.2f} ({low:.2f}-{high:.2f})"


def _line(table: str, name: str, flying: int, runs: pd.DataFrame) -> str:
    best, top = runs["best"].to_numpy(float), runs["top"].to_numpy(float)
    regrets = "".join(f"{runs[f'r{n}'].mean():8.3f}" for n in REGRETS)
    return (
        f"{table:18}{name:34}{flying:6}{len(runs):5}{interval(best):>22}{interval(top):>20}"
        f"{np.mean(best <= 200):10.0%}{np.mean(top <= 100):9.0%}{regrets}"
        f"{runs['cpu_ms'].mean():6.1f}  "
    )


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real tables")
    parser.add_argument("--out", type=Path, default=Path("runs/search_tables.csv"))
    parser.add_argument("--samplers", nargs="+", default=["predictor"])
    parser.add_argument("--tables", nargs="+", choices=list(SURFACES), default=list(SURFACES))
    parser.add_argument("--flying", type=int, nargs="+", default=[1])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--load", type=Path, help="Python file that registers further samplers")
    parser.add_argument("--only-show", action="store_true", help="run nothing")
    given = parser.parse_args()
    if given.load is not None:
        runpy.run_path(str(given.load))
    if not given.only_show:

        def make(table: str, name: str, flying: int, seed: int) -> dict[str, float]:
            return one_run(name, surface_of(table, given.data, seed), flying, seed)

        with one_blas_thread():
            complete(given.out, KEYS, cases(given), make)
    show(runs_of(given.out), given)


if __name__ == "__main__":
    main()
