"""A batch cut into ghost batches (Hoffer, Hubara and Soudry, 2017, arXiv:1705.08741).

Each goes through the network alone, so that BatchNorm takes its statistics over it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from raynas.core.nest import rows, taken
from raynas.supernet.mixing import Mixed
from raynas.supernet.protocol import Batch

LEAST = 2  # examples, of which BatchNorm can take a variance


def ghost_batches(batch: Batch, count: int) -> list[tuple[Batch, float]]:
    """Return parts of a batch, of equal sizes or one more, with their shares of its examples.

    Args:
        batch: inputs and targets.
        count: of the parts; fewer where each would have less than two examples.
    """
    inputs, targets = batch
    size = rows(inputs)
    edges = np.linspace(0, size, max(min(count, size // LEAST), 1) + 1).astype(int).tolist()
    parts = []
    for begin, end in pairwise(edges):
        where = slice(begin, end)
        part = taken(inputs, where), _taken(targets, where)
        parts.append((part, (end - begin) / size))
    return parts


def _taken(targets: Any, where: slice) -> Any:
    if isinstance(targets, Mixed):
        return Mixed(_taken(targets.first, where), _taken(targets.second, where), targets.share)
    return None if targets is None else taken(targets, where)
