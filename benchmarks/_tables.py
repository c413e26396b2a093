"""Tables and surfaces that samplers are compared on: every architecture's score is a look-up.

Real tables are files of a folder (``--data``). Noisy copies and synthetic surfaces are drawn anew
for every seed, so that their figures are means over surfaces as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.search_spaces.nas_bench_201 import LABELS, OPERATIONS, canonical

Scores = NDArray[np.float64]
MACRO, CELLS = "nasbench_macro_cifar10.parquet", "nasbench201_12epochs.parquet"
POSITIONS, OPTIONS = 8, 4  # of the synthetic chains
NOISE = 0.3  # accuracy points of the noisy copies' deviation


@dataclass(frozen=True)
class Surface:
    """A space, and the score of each of its architectures in the space's order."""

    space: ArchSpace
    scores: Scores

    def at(self, arch: Arch) -> float:
        """Return the score of an architecture."""
        place = 0
        for label, numbers in _numbers(self.space).items():
            place = place * len(numbers) + numbers[arch[label]]
        return float(self.scores[place])


@dataclass(frozen=True)
class Source:
    """Where surfaces come from: the folder of the real tables, and what the others draw from."""

    data: Path
    rng: np.random.Generator


@cache
def _numbers(space: ArchSpace) -> dict[str, dict[Any, int]]:
    return {label: {o: i for i, o in enumerate(d.options)} for label, d in space.decisions.items()}


@cache
def _space(positions: int, options: tuple[Any, ...]) -> ArchSpace:
    return ArchSpace.of(**{f"p{i}": options for i in range(positions)})


# --- tables of trained networks ---


@cache
def _read(file: Path, *order: str) -> pd.DataFrame:
    return pd.read_parquet(file).sort_values(list(order))


def macro(source: Source, noise: float = 0.0) -> Surface:
    """NAS-Bench-Macro, with normal deviates times ``noise`` added."""
    scores = _read(source.data / MACRO, "arch")["acc_mean"].to_numpy(float)
    return Surface(
        _space(8, ("0", "1", "2")), scores + noise * source.rng.standard_normal(len(scores))
    )


def cells(source: Source, column: str, noise: float = 0.0) -> Surface:
    """NAS-Bench-201 at 12 epochs, one data set."""
    frame = _read(source.data / CELLS, *LABELS)
    scores = frame[column].to_numpy(float)
    return Surface(_cell_space(), scores + noise * source.rng.standard_normal(len(scores)))


def classes(source: Source, column: str) -> Surface:
    """The same where isomorphic cells are one: their score is the mean of their trainings."""
    frame = _read(source.data / CELLS, *LABELS)
    scores = frame.groupby("unique_str")[column].transform("mean").to_numpy(float)
    return Surface(_cell_space(isomorphism=True), scores)


# --- synthetic surfaces ---


def additive(source: Source) -> Surface:
    """Eight choices of four: a normal effect for each option, and noise."""
    return _chain(_effects(source.rng, pairs=0.0), source.rng)


def interactions(source: Source) -> Surface:
    """Eight choices of four: three quarters of the variance are of pairs of options."""
    return _chain(_effects(source.rng, pairs=3.0), source.rng)


def shared(source: Source) -> Surface:
    """Eight choices of four: half of an option's effect is the same wherever it stands."""
    return _chain(_effects(source.rng, pairs=1.0, common=1.0), source.rng)


def ordinal(source: Source) -> Surface:
    """Five numeric choices of seven: a concave gain of each, pairs that go together, and a cost."""
    sizes = np.array([8, 16, 24, 32, 48, 64, 96])
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 7)] * 5, indexing="ij"), -1).reshape(-1, 5)
    peaks, widths = source.rng.uniform(-0.8, 0.8, 5), source.rng.uniform(0.5, 2.0, 5)
    centred = grid - peaks
    pairs = np.triu(source.rng.normal(0, 0.5, (5, 5)), 1)
    scores = -(widths * centred**2).sum(1) + np.einsum("ni,ij,nj->n", centred, pairs, centred)
    scores /= scores.std()
    noise = 0.1 * source.rng.standard_normal(len(scores))
    return Surface(_space(5, tuple(sizes.tolist())), scores + noise)


def _chain(scores: Scores, rng: np.random.Generator) -> Surface:
    noise = 0.1 * rng.standard_normal(len(scores))
    return Surface(_space(POSITIONS, tuple("abcd")), scores + noise)


def _effects(rng: np.random.Generator, *, pairs: float, common: float = 0.0) -> Scores:
    """Return a sum of effects, of variance 1: of options, of pairs, and common to all positions."""
    grid = np.indices((OPTIONS,) * POSITIONS).reshape(POSITIONS, -1)
    single = rng.standard_normal((POSITIONS, OPTIONS)) + common * rng.standard_normal(OPTIONS)
    scores = sum(single[i][grid[i]] for i in range(POSITIONS))
    weight = np.sqrt(pairs * 2 / (POSITIONS - 1))
    for i in range(POSITIONS):
        for j in range(i):
            pair = rng.standard_normal((OPTIONS, OPTIONS))
            scores = scores + weight * pair[grid[i], grid[j]]
    result: Scores = scores / np.std(scores)
    return result


Make = Callable[[Source], Surface]
SURFACES: dict[str, Make] = {
    "macro": macro,
    "macro_noisy": partial(macro, noise=NOISE),
    "cells_cifar10": partial(cells, column="cifar10_valid_12"),
    "cells_cifar100": partial(cells, column="cifar100_valid_12"),
    "cells_imagenet16": partial(cells, column="imagenet16_valid_12"),
    "cells_noisy": partial(cells, column="cifar10_valid_12", noise=NOISE),
    "classes_cifar10": partial(classes, column="cifar10_valid_12"),
    "classes_cifar100": partial(classes, column="cifar100_valid_12"),
    "classes_imagenet16": partial(classes, column="imagenet16_valid_12"),
    "additive": additive,
    "interactions": interactions,
    "shared": shared,
    "ordinal": ordinal,
}


@cache
def _cell_space(*, isomorphism: bool = False) -> ArchSpace:
    """The operations in the order in which tables are sorted, by name."""
    operations = sorted(OPERATIONS)
    flat = ArchSpace.of(**dict.fromkeys(LABELS, operations))
    return ArchSpace(flat.choices, isomorphism=canonical) if isomorphism else flat


def surface(name: str, data: Path, seed: int) -> Surface:
    """Return the surface of a name that a seed searches."""
    return SURFACES[name](Source(data, np.random.default_rng([seed, 17])))
