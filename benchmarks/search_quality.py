"""How many queries each sampler needs on a table of trained networks.

One query is one look-up. Printed per sampler: median queries to the table's best network (with the
share of seeds that found it within the budget), and the mean regret after so many queries, in the
accuracy's unit. With ``--through-search``, instead, the queries through ``raynas.search`` on two
workers, whose batches grow as ever, over those of one ask and one tell in turn on the same seeds.

Tables: any Parquet file with a column ``arch`` (a text, one character per choice) or one column per
choice (``--choices``, a prefix; default ``edge_``), such as NAS-Bench-Macro and NAS-Bench-201.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import raynas
from raynas.cluster.connect import connected
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial

NAMES = (
    "random", "regularized_evolution", "evolution", "local_search", "reinforce", "tpe", "nsga2",
    "predictor",
)  # fmt: skip
LEARNING = ("regularized_evolution", "evolution", "local_search", "predictor")
REGRETS = (50, 100, 200)
RAY = raynas.RayConfig(num_cpus=2, workers=2)
Score = Callable[[Arch], Trial]


@dataclass(frozen=True)
class Table:
    """What was measured of every architecture of a space."""

    space: ArchSpace
    row: dict[tuple[str, ...], int]
    accuracy: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path, accuracy: str | None, choices: str) -> Table:
        """Read a Parquet file."""
        frame = pd.read_parquet(path)
        if "arch" in frame:
            parts = pd.DataFrame([list(text) for text in frame["arch"]]).add_prefix("choice")
        else:
            parts = frame[[name for name in frame if str(name).startswith(choices)]]
        options = {str(name): sorted(set(parts[name])) for name in parts}
        column = accuracy or ("acc_mean" if "acc_mean" in frame else "cifar10_valid_12")
        keys = parts.itertuples(index=False, name=None)
        return cls(
            space=ArchSpace.of(**options),
            row={key: i for i, key in enumerate(keys)},
            accuracy=frame[column].to_numpy(float),
        )

    def at(self, arch: Arch) -> int:
        """Return the row of an architecture."""
        return self.row[tuple(str(arch[label]) for label in self.space.labels)]

    def write(self, path: str) -> None:
        """Write what the evaluator ``table`` reads: a column per choice, and ``accuracy``."""
        frame = pd.DataFrame(list(self.row), columns=list(self.space.labels))
        frame.assign(accuracy=self.accuracy[list(self.row.values())]).to_parquet(path)


def run(sampler: Sampler, score: Score, budget: int, flying: int) -> Iterator[Trial]:
    """Yield trials as they are told, with so many in flight; the oldest is told first."""
    waiting: list[Arch] = []
    for i in range(budget):
        while len(waiting) < min(flying, budget - i):
            waiting.append(sampler.ask())
        trial = score(waiting.pop(0))
        sampler.tell(trial)
        yield trial


def best_found(table: Table, name: str, seeds: int, budget: int, flying: int) -> str:
    """Return one line: how soon and how near a sampler comes to the best network."""
    top = table.accuracy.max()
    needed, curves = [], []
    began = time.process_time()

    def score(arch: Arch) -> Trial:
        return Trial.completed(arch, float(table.accuracy[table.at(arch)]))

    for seed in range(seeds):
        trials = run(SAMPLERS[name](table.space, seed=seed), score, budget, flying)
        found = np.array([trial.objective for trial in trials])
        curve = np.maximum.accumulate(found)
        curves.append(top - curve)
        needed.append(int((curve < top).sum()) + 1)
    median = sorted(needed)[(seeds - 1) // 2] if seeds % 2 else float(np.median(needed))
    share = np.mean([queries <= budget for queries in needed])
    within = np.mean([queries <= 100 for queries in needed])
    regrets = "".join(
        f"{np.mean([c[n - 1] for c in curves]):8.3f}" if n <= budget else " " * 8 for n in REGRETS
    )
    cpu = (time.process_time() - began) / seeds / budget * 1000
    shown = f"{median:.0f}" if median <= budget else f">{budget}"
    return f"{name:24}{flying:6}{shown:>9}{share:8.0%}{within:8.0%}{regrets}{cpu:9.2f}"


def through_search(table: Table, name: str, seeds: int, budget: int, path: str) -> str:
    """Return one line: queries to the best network through ``raynas.search``, over ask and tell."""
    top = table.accuracy.max()

    def score(arch: Arch) -> Trial:
        return Trial.completed(arch, float(table.accuracy[table.at(arch)]))

    alone, found, flying = [], [], []
    for seed in range(seeds):
        trials = run(SAMPLERS[name](table.space, seed=seed), score, budget, 1)
        alone.append(queries([trial.objective or 0.0 for trial in trials], top))
        with tempfile.TemporaryDirectory() as out:
            told = raynas.search(
                table.space, name, evaluator=("table", {"path": path}), trials=budget, seed=seed,
                out=f"{out}/run", ray=RAY,
            ).trials.sort_values("told_event")  # fmt: skip
        found.append(queries(told["objective"].tolist(), top))
        asked = np.sort(told["asked_event"])[: found[-1]]
        before = np.searchsorted(told["told_event"], asked)
        flying.append(float(np.mean(np.arange(1, len(asked) + 1) - before)))
    medians = [float(np.median(needed)) for needed in (alone, found)]
    means = [float(np.mean(needed)) for needed in (alone, found)]
    return (
        f"{name:24}{np.mean(flying):8.1f}{medians[0]:12.1f}{medians[1]:8.1f}"
        f"{medians[1] / medians[0]:8.2f}{means[0]:12.1f}{means[1]:8.1f}{means[1] / means[0]:8.2f}"
    )


def compare(table: Table, names: Sequence[str], seeds: int, budget: int) -> None:
    """Print a line of ``through_search`` per sampler."""
    print(
        f"{'sampler':24}{'flying':>8}{'median:':>12}{'search':>8}{'ratio':>8}"
        f"{'mean:':>12}{'search':>8}{'ratio':>8}"
    )
    with tempfile.TemporaryDirectory() as folder, connected(RAY):
        table.write(f"{folder}/table.parquet")
        for name in names:
            line = through_search(table, name, seeds, budget, f"{folder}/table.parquet")
            print(line, flush=True)


def queries(scores: Sequence[float], top: float) -> int:
    """Return the number of the first query of the best score, or one more than all."""
    return next((i for i, score in enumerate(scores) if score >= top), len(scores)) + 1


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--accuracy", help="column (acc_mean or cifar10_valid_12)")
    parser.add_argument("--choices", default="edge_", help="prefix of the choices' columns")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--samplers", nargs="+")
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--flying", type=int, nargs="+", default=[1])
    parser.add_argument("--through-search", action="store_true")
    given = parser.parse_args()
    table = Table.read(given.table, given.accuracy, given.choices)
    print(f"{given.table.stem}: {len(table.accuracy):,} architectures, {given.seeds} seeds")
    if given.through_search:
        compare(table, given.samplers or LEARNING, given.seeds, given.budget)
        return
    cases = list(itertools.product(given.samplers or NAMES, given.flying))
    print(
        f"{'sampler':24}{'flying':>6}{'optimum':>9}{f'in {given.budget}':>8}{'in 100':>8}"
        + "".join(f"{f'r{n}':>8}" for n in REGRETS)
        + f"{'cpu ms':>9}"
    )
    for name, flying in cases:
        print(best_found(table, name, given.seeds, given.budget, flying), flush=True)


if __name__ == "__main__":
    main()
