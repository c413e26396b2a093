"""What a model may choose from: neighbours and mutants of the best points, and any others.

Shapes: C candidates, K columns.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core.codes import Codes, Rows

NEIGHBOURS = 400  # of a centre, at most; of more, so many are drawn
MUTANTS = 30  # of a centre, that differ in two or three decisions
UNIFORM = 100  # from anywhere


@dataclass(frozen=True)
class Candidates:
    """Rows, most of them changed in a few columns from one of a few centres.

    Attributes:
        rows: shape (C, K).
        owners: number of the centre that each was made from, shape (C,); -1 if from none.
        centres: shape (centres, K).
    """

    rows: Rows
    owners: NDArray[np.intp]
    centres: Rows

    def __len__(self) -> int:
        return len(self.rows)


def candidates(
    codes: Codes,
    centres: Rows,
    rng: np.random.Generator,
    *,
    seen: Container[bytes],
    pool: Rows | None = None,
) -> Candidates:
    """Return unseen rows, each once: neighbours and mutants of the centres, and any others.

    Args:
        codes: of the space.
        centres: at least one.
        rng: draws.
        seen: keys of what is left out.
        pool: rows that come last.
    """
    near = [codes.neighbours(row, rng, most=NEIGHBOURS) for row in centres]
    mutants = codes.mutate(codes.mutate(np.repeat(centres, MUTANTS, 0), rng), rng)
    thrice = rng.random(len(mutants)) < 0.3
    mutants[thrice] = codes.mutate(mutants[thrice], rng)
    rows = np.concatenate([*near, mutants, codes.uniform(UNIFORM, rng)])
    rows = rows if pool is None else np.concatenate([rows, pool])
    each = np.arange(len(centres))
    made = np.concatenate([np.repeat(each, list(map(len, near))), np.repeat(each, MUTANTS)])
    owners = np.append(made, np.full(len(rows) - len(made), -1))
    first: dict[bytes, int] = {}
    for i, key in enumerate(codes.keys(rows)):
        if key not in seen:
            first.setdefault(key, i)
    kept = list(first.values())
    return Candidates(rows[kept], owners[kept], centres)
