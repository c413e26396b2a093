"""How many queries each sampler needs on a table of trained networks.

One query is one look-up. Printed per sampler: median queries to the table's best network (with the
share of seeds that found it within the budget), and the mean regret after so many queries, in the
accuracy's unit. With ``--cost``, also the hypervolume of accuracy against cost over the true
front's; the reference point is the 25 % quantile of the accuracy and the 95 % quantile of the cost.

Tables: any Parquet file with a column ``arch`` (a text, one character per choice) or one column per
choice (``--choices``, a prefix; default ``edge_``), such as NAS-Bench-Macro and NAS-Bench-201.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.objectives import hypervolume, pareto_mask
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial

NAMES = (
    "random", "regularized_evolution", "evolution", "local_search", "reinforce", "tpe", "nsga2",
    "predictor",
)  # fmt: skip
REGRETS = (50, 100, 200)
Score = Callable[[Arch], Trial]


@dataclass(frozen=True)
class Table:
    """What was measured of every architecture of a space."""

    space: ArchSpace
    row: dict[tuple[str, ...], int]
    accuracy: NDArray[np.float64]
    cost: NDArray[np.float64] | None

    @classmethod
    def read(cls, path: Path, accuracy: str | None, cost: str | None, choices: str) -> Table:
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
            cost=None if cost is None else frame[cost].to_numpy(float),
        )

    def at(self, arch: Arch) -> int:
        """Return the row of an architecture."""
        return self.row[tuple(str(arch[label]) for label in self.space.labels)]

    def points(self) -> NDArray[np.float64]:
        """Return accuracy and negated cost of every row, shape (rows, 2)."""
        assert self.cost is not None
        return np.stack([self.accuracy, -self.cost], axis=1)


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


def volume_found(table: Table, name: str, seeds: int, budget: int, flying: int) -> str:
    """Return one line: the hypervolume that a sampler finds over the true front's."""
    points = table.points()
    reference = np.array([np.quantile(points[:, 0], 0.25), np.quantile(points[:, 1], 0.05)])
    whole = hypervolume(points[pareto_mask(points)], reference)

    def score(arch: Arch) -> Trial:
        return Trial.scored_as(arch, points[table.at(arch)])

    shares = []
    for seed in range(seeds):
        several = getattr(SAMPLERS[name], "multi_objective", False)
        options = {"objectives": ("accuracy", "cost")} if several else {}
        sampler = SAMPLERS[name](table.space, seed=seed, **options)
        found = np.array([trial.scores for trial in run(sampler, score, budget, flying)])
        shares.append(hypervolume(found, reference) / whole)
    spread = np.std(shares)
    return f"{name:24}{flying:6}{np.mean(shares):9.3f} +- {spread:.3f}, least {min(shares):.3f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--accuracy", help="column (acc_mean or cifar10_valid_12)")
    parser.add_argument("--cost", help="column to be minimised (flops, macs_cifar10)")
    parser.add_argument("--choices", default="edge_", help="prefix of the choices' columns")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--samplers", nargs="+", default=NAMES)
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--flying", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    table = Table.read(given.table, given.accuracy, given.cost, given.choices)
    cases = list(itertools.product(given.samplers, given.flying))
    print(f"{given.table.stem}: {len(table.accuracy):,} architectures, {given.seeds} seeds")
    print(
        f"{'sampler':24}{'flying':>6}{'optimum':>9}{f'in {given.budget}':>8}{'in 100':>8}"
        + "".join(f"{f'r{n}':>8}" for n in REGRETS)
        + f"{'cpu ms':>9}"
    )
    for name, flying in cases:
        print(best_found(table, name, given.seeds, given.budget, flying), flush=True)
    if table.cost is not None:
        print(f"\nhypervolume over the true front's after {given.budget} queries")
        for name, flying in cases:
            print(volume_found(table, name, given.seeds, given.budget, flying), flush=True)


if __name__ == "__main__":
    main()
