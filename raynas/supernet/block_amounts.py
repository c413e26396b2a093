"""What the variants of blocks add of bounded costs, alone and in tied pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from raynas.core.block_division import close
from raynas.core.blocks import Blocks, Pick
from raynas.core.constraints import Constraint
from raynas.core.feasible import Cheap

CHECKED = 32  # random architectures whose bounded costs are compared with sums
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Amounts:
    """What of a bounded metric each variant adds to the parent's.

    Attributes:
        constraint: on the metric.
        parent: of the parent.
        added: for each block, by variant, shape (variants,); the first is 0.
        pairs: what two variants add together beyond what each adds, by the positions of their
            blocks, shape (variants, variants of the other); the first row and column are 0.
    """

    constraint: Constraint
    parent: float
    added: tuple[Numbers, ...]
    pairs: Mapping[tuple[int, int], Numbers] = field(default_factory=dict)

    def of(self, pick: Pick) -> float:
        """Return the metric of a combination."""
        alone = sum(a[n] for a, n in zip(self.added, pick, strict=True))
        together = sum(table[pick[a], pick[b]] for (a, b), table in self.pairs.items())
        return self.parent + float(alone + together)


def amounts_of(blocks: Blocks, costs: Cheap, constraint: Constraint) -> Amounts | None:
    """Return what each variant, and each pair of tied ones, adds of a bounded metric.

    None where random combinations show that this does not tell the metric.

    Args:
        blocks: of the space.
        costs: of an architecture, by metric.
        constraint: on one of these.
    """
    name = constraint.metric

    def beside(numbers: Mapping[int, int]) -> float:
        return float(costs(blocks.arch(blocks.replaced(numbers)))[name])

    whole, sizes = beside({}), blocks.sizes
    added = tuple(np.zeros(size) for size in sizes)
    for at, size in enumerate(sizes):
        for number in range(1, size):
            added[at][number] = beside({at: number}) - whole
    amounts = Amounts(constraint, whole, added)
    if not _agree(amounts, blocks, costs):
        amounts = replace(amounts, pairs=_pairs(blocks, added, whole, beside))
        if not (amounts.pairs and _agree(amounts, blocks, costs)):
            return None
    return amounts


def _pairs(
    blocks: Blocks,
    added: Sequence[Numbers],
    whole: float,
    beside: Callable[[Mapping[int, int]], float],
) -> dict[tuple[int, int], Numbers]:
    pairs = {}
    for a, b in blocks.ties:
        table = np.zeros((blocks.sizes[a], blocks.sizes[b]))
        for i in range(1, len(table)):
            for j in range(1, table.shape[1]):
                table[i, j] = beside({a: i, b: j}) - whole - added[a][i] - added[b][j]
        if np.any(table):
            pairs[a, b] = table
    return pairs


def _agree(amounts: Amounts, blocks: Blocks, costs: Cheap) -> bool:
    rng, name = np.random.default_rng(0), amounts.constraint.metric
    for pick in (blocks.corner, *(blocks.drawn(rng) for _ in range(CHECKED))):
        if not close(amounts.of(pick), costs(blocks.arch(pick))[name], amounts.parent):
            return False
    return True
