"""Architectures as rows of small integers, so that thousands are made and compared at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision
from raynas.core.plain_choices import PlainChoices, steps_of

Rows: TypeAlias = NDArray[np.int32]
UNREACHED = -1


@dataclass(frozen=True)
class Edits:
    """Changes of a row, each of one decision; an exchange in a subset writes two values.

    Attributes:
        decisions: number of the decision, shape (E,).
        columns: what is written, twice the same where it is one value, shape (E, 2).
        values: to each, shape (E, 2).
    """

    decisions: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.decisions)


class Codes:
    """Translates between architectures and rows, and draws, mutates and measures rows.

    A ``Choice`` has one column with the number of its option, a ``Subset`` one column of 0 and 1
    per option. The columns of a decision that is not reached hold -1. Shapes: N rows, C columns.

    >>> space = ArchSpace.of(depth=[2, 3], width=[16, 32, 64])
    >>> codes = Codes(space)
    >>> row = codes.encode(Arch({"depth": 3, "width": 16}))
    >>> row.tolist(), codes.decode(row) == {"depth": 3, "width": 16}
    ([1, 0], True)

    Args:
        space: what is searched.

    Attributes:
        changes: in how many ways each decision can change by one step.
        values: of all columns, not being reached counted where it may be.
        starts: number of each column's value 0 among them, shape (C,).
    """

    def __init__(self, space: ArchSpace) -> None:
        self.space = space
        self.labels = list(space.decisions)
        self.sizes: list[int] = []  # values per column
        self.columns: dict[str, slice] = {}
        for label, decision in space.decisions.items():
            sizes = _sizes(decision)
            self.columns[label] = slice(len(self.sizes), len(self.sizes) + len(sizes))
            self.sizes += sizes
        self._places = self._find_places()
        self._hidden = [  # decisions that some architectures do not reach, those above first
            (self.columns[label], [place for place in self._places[label] if place is not None])
            for label in self._parents_first()
            if None not in self._places[label]
        ]
        self._nested = any(place for places in self._places.values() for place in places)
        decisions = space.decisions.values()
        self._plain = _all_plain(space)
        self._free = np.array([d.count() > 1 for d in decisions], dtype=bool)
        self._is_choice = np.array([isinstance(d, Choice) for d in decisions], dtype=bool)
        self._first = np.array([span.start for span in self.columns.values()], dtype=np.intp)
        self._sizes = np.array(self.sizes, dtype=np.int32)
        spare = np.zeros(len(self._sizes), dtype=np.int32)
        for hidden, _ in self._hidden:
            spare[hidden] = 1
        self.values = int((self._sizes + spare).sum())
        self.starts = np.cumsum(self._sizes + spare) - self._sizes
        self.changes = np.array([_changes(d) for d in decisions], dtype=np.int64)

    def _find_places(self) -> dict[str, list[tuple[int, int] | None]]:
        """Return the columns and numbers that open each decision; None where nothing needs to."""
        places: dict[str, list[tuple[int, int] | None]] = {label: [] for label in self.labels}
        for decision in self.space.choices:
            places[decision.label].append(None)
        for label, decision in self.space.decisions.items():
            start = self.columns[label].start
            for option, opened in decision.opens.items():
                at = decision.options.index(option)
                place = (start, at) if isinstance(decision, Choice) else (start + at, 1)
                for inner in opened.choices:
                    places[inner.label].append(place)
        return places

    def _parents_first(self) -> list[str]:
        owner = {
            column: label
            for label, span in self.columns.items()
            for column in range(span.start, span.stop)
        }
        above = {
            label: {owner[place[0]] for place in places if place is not None}
            for label, places in self._places.items()
        }
        return list(TopologicalSorter(above).static_order())

    # --- one architecture ---

    def encode(self, arch: Mapping[str, Value]) -> Rows:
        """Return the row of one architecture, shape (C,)."""
        if self._plain is not None and (numbers := self._plain.numbers(arch)) is not None:
            return np.array(numbers, dtype=np.int32)
        row = np.full(len(self.sizes), UNREACHED, dtype=np.int32)
        for label, decision in self.space.decisions.items():
            if label in arch:
                row[self.columns[label]] = self._numbers(decision, arch[label])
        return row

    @staticmethod
    def _numbers(decision: Decision, value: Value) -> int | list[int]:
        if isinstance(decision, Choice):
            return decision.index(value)
        mask = decision.index(value)
        return [mask >> i & 1 for i in range(len(decision.options))]

    def decode(self, row: Rows) -> Arch:
        """Return the architecture of one row of shape (C,)."""
        numbers = row.tolist()
        if self._plain is not None:
            return Arch(dict(zip(self.labels, self._plain.values(numbers), strict=True)))
        taken: dict[str, Value] = {}
        for label, decision in self.space.decisions.items():
            own = numbers[self.columns[label]]
            if isinstance(decision, Choice):
                if own[0] != UNREACHED:
                    taken[label] = decision.options[own[0]]
            elif UNREACHED not in own:
                taken[label] = tuple(o for o, bit in zip(decision.options, own, strict=True) if bit)
        return Arch(taken)

    # --- many rows ---

    def uniform(self, count: int, rng: np.random.Generator) -> Rows:
        """Draw rows as ``ArchSpace.sample`` draws architectures, shape (count, C)."""
        return self.settle(self.genotypes(count, rng))

    def genotypes(self, count: int, rng: np.random.Generator) -> Rows:
        """Draw a value for every decision, reached or not, shape (count, C)."""
        drawn = rng.integers(0, self._sizes, size=(count, len(self.sizes)))
        rows: Rows = drawn.astype(np.int32)
        for label, k in self._exact.items():
            own = rows[:, self.columns[label]]
            own[:] = rng.random(own.shape).argsort(1) < k
        return rows

    @cached_property
    def _exact(self) -> dict[str, int]:
        """The subsets of a fixed number of options."""
        decisions = self.space.decisions.items()
        return {
            label: d.k for label, d in decisions if not isinstance(d, Choice) and d.k is not None
        }

    def settle(self, genotypes: Rows) -> Rows:
        """Write -1 into every column that the other values do not reach, in place."""
        for columns, places in self._hidden:
            column, number = places[0]
            reached = genotypes[:, column] == number
            for column, number in places[1:]:
                reached |= genotypes[:, column] == number
            genotypes[~reached, columns] = UNREACHED
        return genotypes

    def fill(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Return rows with values drawn for what is not reached, ready to be edited."""
        if not self._nested:
            return rows.copy()
        return np.where(rows == UNREACHED, self.genotypes(len(rows), rng), rows)

    def neighbours(self, row: Rows, rng: np.random.Generator, most: int | None = None) -> Rows:
        """Return all rows that differ from one in a single decision.

        What a change newly opens is drawn, once; a subset exchanges one option, or adds or drops
        one if it may have any number of them.

        Args:
            row: shape (C,).
            rng: draws.
            most: of more rows, so many are drawn; None returns all.
        """
        edits = self.edits(row)
        numbers = np.arange(len(edits))
        if most is not None and len(edits) > most:
            numbers = np.sort(rng.choice(numbers, most, replace=False, shuffle=False))
        return self.edited(row, edits, np.arange(len(numbers)), numbers, rng)

    def edits(self, row: Rows) -> Edits:
        """Return every change of one decision, by decision and value."""
        counts = np.where(row[self._first] == UNREACHED, 0, self.changes)
        decisions = np.repeat(np.arange(len(counts)), counts)
        ends = np.cumsum(counts)
        changes = np.arange(len(decisions)) - np.repeat(ends - counts, counts)
        columns = np.repeat(self._first[decisions, None], 2, 1)
        values = np.repeat((changes + (changes >= row[columns[:, 0]]))[:, None], 2, 1)
        for at in np.flatnonzero(~self._is_choice & (counts > 0)).tolist():
            mine = slice(int(ends[at] - counts[at]), int(ends[at]))
            own = row[self.columns[self.labels[at]]]
            if self.labels[at] not in self._exact:
                columns[mine] += np.arange(len(own))[:, None]
                values[mine] = 1 - own[:, None]
                continue
            leaving, joining = np.flatnonzero(own), np.flatnonzero(own == 0)
            columns[mine, 0] += np.repeat(leaving, len(joining))
            columns[mine, 1] += np.tile(joining, len(leaving))
            values[mine] = 0, 1
        return Edits(decisions, columns, values)

    def edited(
        self,
        row: Rows,
        edits: Edits,
        places: NDArray[np.intp],
        numbers: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> Rows:
        """Return changed rows; what is newly opened is drawn.

        Args:
            row: what is changed, shape (C,).
            edits: of this row.
            places: which of the returned rows has a change; ascending, none left out.
            numbers: which change it has there, of a decision at most one.
            rng: draws.
        """
        count = int(places[-1]) + 1 if len(places) else 0
        rows = self.fill(np.repeat(row[None], count, 0), rng)
        for part in (0, 1):
            rows[places, edits.columns[numbers, part]] = edits.values[numbers, part]
        return self.settle(rows)

    def mutate(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Change one reached decision in every row, each as ``ArchSpace.mutate`` does."""
        if not self.labels:
            return rows.copy()
        reached = rows[:, self._first] != UNREACHED
        picked = (rng.random(reached.shape) * (reached & self._free)).argmax(1)
        rows = self.fill(rows, rng)
        order = np.argsort(picked, kind="stable")
        order = order[self._free[picked[order]]]
        labels = picked[order]
        together = np.where(self._is_choice[labels], -1, labels)  # runs of choices, or one subset
        for mine in np.split(order, np.flatnonzero(np.diff(together)) + 1):
            if len(mine):
                self._change(rows, mine, picked[mine], rng)
        return self.settle(rows)

    def _change(
        self, rows: Rows, mine: NDArray[np.intp], at: NDArray[np.intp], rng: np.random.Generator
    ) -> None:
        """Change one decision in each of some rows, in place: choices, or all the same subset."""
        if self._is_choice[at[0]]:
            columns = self._first[at]
            sizes = self._sizes[columns]
            drawn = rng.integers(1, sizes, dtype=np.int32)
            rows[mine, columns] = (rows[mine, columns] + drawn) % sizes
            return
        label = self.labels[at[0]]
        own: Rows = rows[mine, self.columns[label]]
        each = np.arange(len(own))
        leaving = (rng.random(own.shape) * (own == 1)).argmax(1)
        joining = (rng.random(own.shape) * (own == 0)).argmax(1)
        if label in self._exact:
            own[each, leaving], own[each, joining] = 0, 1
        else:
            own[each, rng.integers(own.shape[1], size=len(own))] ^= 1
        rows[mine, self.columns[label]] = own

    def cross(self, first: Rows, second: Rows, rng: np.random.Generator) -> Rows:
        """Take every decision of every row from one of two parents, at random."""
        widths = [span.stop - span.start for span in self.columns.values()]
        coins = rng.integers(2, size=(len(first), len(widths)), dtype=np.int32)
        pick = np.repeat(coins, widths, axis=1) == 1
        # what one parent does not reach is the other's, as ``ArchSpace.cross`` has it
        pick = np.where(first == UNREACHED, False, pick | (second == UNREACHED))
        return self.settle(self.fill(np.where(pick, first, second), rng))

    # --- likeness ---

    def features(self, rows: Rows) -> NDArray[np.float64]:
        """Return vectors whose products are the shares of equal decisions, shape (N, features).

        Not being reached is a value of its own; two subsets are as equal as the share of options
        that both have or both lack.
        """
        starts = np.cumsum([0, *(size + 1 for size in self.sizes)])
        found = np.zeros((len(rows), int(starts[-1])))
        places = rows + 1 + starts[:-1]
        found[np.arange(len(rows))[:, None], places] = self._weights
        return found

    def places(self, rows: Rows) -> NDArray[np.intp]:
        """Return the numbers of all values that are taken, among those of all columns, (N, C)."""
        places: NDArray[np.intp] = rows + self.starts
        return places

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        widths = [span.stop - span.start for span in self.columns.values()]
        each = [1 / (len(widths) * width) for width in widths for _ in range(width)]
        weights: NDArray[np.float64] = np.sqrt(np.array(each))
        return weights

    def one_hot(self, rows: Rows) -> NDArray[np.float64]:
        """Return a 1 for every value, zeros for what is not reached, shape (N, sum of sizes)."""
        starts = np.cumsum([0, *self.sizes])
        vectors = np.zeros((len(rows), int(starts[-1])))
        at, columns = np.nonzero(rows != UNREACHED)
        vectors[at, starts[columns] + rows[at, columns]] = 1.0
        return vectors

    def keys(self, rows: Rows) -> list[bytes]:
        """Return one key per row, equal for equal rows."""
        rows = np.ascontiguousarray(rows, dtype=self._smallest)
        if not rows.shape[1]:
            return [b""] * len(rows)
        packed = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
        return [key.tobytes() for key in packed.ravel()]

    @cached_property
    def _smallest(self) -> np.dtype[np.signedinteger]:
        """The type of integers that holds every number."""
        return np.min_scalar_type(-max(self.sizes, default=1))


def _sizes(decision: Decision) -> list[int]:
    n = len(decision.options)
    return [n] if isinstance(decision, Choice) else [2] * n


def _changes(decision: Decision) -> int:
    n = len(decision.options)
    if isinstance(decision, Choice):
        return n - 1
    return n if decision.k is None else decision.k * (n - decision.k)


def _all_plain(space: ArchSpace) -> PlainChoices | None:
    """Return the choices of a space that has nothing else."""
    steps = steps_of(space.choices)
    return steps[0] if len(steps) == 1 and isinstance(steps[0], PlainChoices) else None
