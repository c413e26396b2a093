"""What a model may choose from: neighbours and mutants of the best points, and any others.

Shapes: C candidates, K columns.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raynas.core.codes import Codes, Rows

NEIGHBOURS = 400  # of a centre, at most; of more, so many are drawn, or
BEST = 50  # are looked at where it is known what they are expected to gain
DRAWN = 3  # sets of changes made at once, of each size
MUTANTS = 30  # of a centre, that differ in two or three decisions
UNIFORM = 100  # from anywhere
FEW_UNIFORM = 20  # the same in a deep space, where none is compared quickly


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


def is_deep(codes: Codes) -> bool:
    """Return whether there are more changes of one decision than are looked at."""
    return bool(codes.changes.sum() > NEIGHBOURS)


Gains = Callable[[Rows], NDArray[np.float64]]  # of every value of every column, by centre


def candidates(
    codes: Codes,
    centres: Rows,
    rng: np.random.Generator,
    *,
    seen: Container[bytes],
    pool: Rows | None = None,
    gains: Gains | None = None,
) -> Candidates:
    """Return unseen rows, each once: neighbours and mutants of the centres, and any others.

    Where there are more than 400 changes of one decision, only some of them are looked at.

    Args:
        codes: of the space.
        centres: at least one.
        rng: draws.
        seen: keys of what is left out.
        pool: rows that come last.
        gains: what a value is expected to add at each centre: says which changes are looked at,
            together as well; None draws them.
    """
    anywhere = UNIFORM
    if gains is None or not is_deep(codes):
        near = [codes.neighbours(row, rng, most=NEIGHBOURS) for row in centres]
    else:
        anywhere = FEW_UNIFORM
        near = [
            ascents(codes, row, own, rng) for row, own in zip(centres, gains(centres), strict=True)
        ]
    mutants = codes.mutate(codes.mutate(np.repeat(centres, MUTANTS, 0), rng), rng)
    thrice = rng.random(len(mutants)) < 0.3
    mutants[thrice] = codes.mutate(mutants[thrice], rng)
    rows = np.concatenate([*near, mutants, codes.uniform(anywhere, rng)])
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


def ascents(codes: Codes, row: Rows, gains: NDArray[np.float64], rng: np.random.Generator) -> Rows:
    """Return a row's most promising changes, each alone and many together.

    Of the best change of every decision that gains, the first 2, 4, 8, ... are made at once, and as
    many again drawn from twice as many, some times.

    Args:
        codes: of the space.
        row: shape (K,).
        gains: of every value of every column.
        rng: draws.
    """
    edits = codes.edits(row)
    written = codes.starts[edits.columns]
    gained_E2 = gains[written + edits.values] - gains[written + row[edits.columns]]
    single = edits.columns[:, 0] == edits.columns[:, 1]
    gained = gained_E2[:, 0] + np.where(single, 0, gained_E2[:, 1])
    order = np.argsort(-gained, kind="stable")
    alone = order[:BEST]
    better = order[gained[order] > 0]
    _, first = np.unique(edits.decisions[better], return_index=True)
    ladder = better[np.sort(first)]  # one change a decision
    places, numbers = [np.arange(len(alone))], [alone]
    for steps in _steps(len(ladder), rng):
        places.append(np.full(len(steps), len(places) + len(alone) - 1))
        numbers.append(ladder[steps])
    return codes.edited(row, edits, np.concatenate(places), np.concatenate(numbers), rng)


def _steps(count: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Yield which steps of a ladder are made at once."""
    many = 2
    while many <= count:
        yield np.arange(many)
        for _ in range(DRAWN):
            drawn = np.flatnonzero(rng.random(min(2 * many, count)) < 0.5)
            if len(drawn):
                yield drawn
        many *= 2
