"""Paths whose costs are spread over a range, as the authors of SPOS draw them.

Guo et al., 2020, arXiv:1904.00420. Their published code takes one of 7 bins of 10 million
multiply-accumulates, from 290 to 360, and draws paths until one falls into it, 500 at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, taken
from raynas.costs.cost_bounds import cost_bound
from raynas.costs.cost_table import CostTable

CostMetric = Literal["macs", "params", "activation_bytes"]


@dataclass(frozen=True)
class Balance:
    """Which costs are balanced, and how.

    Args:
        metric: ``macs``, ``params`` or ``activation_bytes``.
        range: least and most; None takes what the space's architectures cost.
        bins: of equal width, each as probable as the others.
        tries: paths drawn for one bin; then the last one is taken, whatever it costs.

    Raises:
        ValueError: a range that does not rise, or no bin or try.
    """

    metric: CostMetric
    range: tuple[float, float] | None = None
    bins: int = 7
    tries: int = 500

    def __post_init__(self) -> None:
        if self.range is not None and not 0 <= self.range[0] < self.range[1]:
            raise ValueError(f"balance_range must rise from 0 or more, got {self.range}")
        for name in ("bins", "tries"):
            if (value := vars(self)[name]) < 1:
                raise ValueError(f"balance_{name} must be at least 1, got {value}")


class BalancedPaths:
    """Draws paths that fall into a random one of equal bins of cost.

    Args:
        space: of the paths.
        cost: of a path.
        limits: least and most cost; above the least, or there is one bin only.
        bins: how many.
        tries: paths drawn for a bin.
    """

    def __init__(
        self,
        space: ArchSpace,
        cost: Callable[[Arch], float],
        limits: tuple[float, float],
        *,
        bins: int,
        tries: int,
    ) -> None:
        self._space, self._cost, self._tries = space, cost, tries
        self._edges = np.linspace(*limits, bins + 1).tolist()

    def draw(self, rng: np.random.Generator) -> tuple[Arch, bool]:
        """Return a path, and whether it falls into the bin that was drawn for it."""
        at = int(rng.integers(len(self._edges) - 1))
        low, high = self._edges[at : at + 2]
        for _ in range(self._tries):
            path = self._space.sample(rng)
            if low <= self._cost(path) <= high:
                return path, True
        return path, False


def balanced_paths(
    balance: Balance, space: ArchSpace, model: nn.Module, inputs: Nest
) -> BalancedPaths:
    """Return what draws the balanced paths of a supernet.

    Where costs are no sums over a model's parts (see ``CostTable``), every path that is drawn is
    measured on its own.

    Args:
        balance: of what, and how.
        space: of the paths.
        model: the supernet; its routes, mode and state are kept.
        inputs: of a batch, whose first example is taken.

    Raises:
        InvalidSpace: of so many random architectures, none costs what lies in the range.
    """
    table = CostTable(model, taken(inputs, slice(1)))

    def cost(arch: Arch) -> float:
        return table.cost(arch).as_metrics()[balance.metric]

    def paths(limits: tuple[float, float], bins: int) -> BalancedPaths:
        return BalancedPaths(space, cost, limits, bins=bins, tries=balance.tries)

    limits = balance.range
    if limits is None:
        return paths(_ends(space, table, balance.metric), balance.bins)
    _, fits = paths(limits, 1).draw(np.random.default_rng(0))
    if not fits:
        least, most = _ends(space, table, balance.metric)
        raise InvalidSpace(
            f"none of {balance.tries} random architectures has {balance.metric} from "
            f"{limits[0]:g} to {limits[1]:g}; those of the space reach from {least:g} to {most:g}"
        )
    return paths(limits, balance.bins)


def _ends(space: ArchSpace, table: CostTable, metric: str) -> tuple[float, float]:
    """Return the least and the most that an architecture costs, as far as that can be known."""
    return (
        cost_bound(space, table, metric, "min").value,
        cost_bound(space, table, metric, "max").value,
    )
