"""A Ray Data dataset as a split, for every rank its share of each batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raynas.core.nest import Nest, moved, rows, taken
from raynas.data.errors import ReadError, in_words
from raynas.data.examples import example_of
from raynas.data.reading import Reading, joined
from raynas.data.split import Indices, MemorySplit, Order, Split, bounds

WINDOW = 16  # batches whose rows are shuffled together
CHUNK = 64  # rows that are read at a time where the caller has no batch size
FIRST = 4  # rows whose size stands for that of all


class RaySplit(Split):
    """Rows of a ``ray.data.Dataset``, or of what else has ``iter_torch_batches``.

    The dataset is executed once, where this is made: its blocks lie in Ray's object store, and on
    disk as far as they do not fit there. So reading them takes no CPU that workers of a search may
    have to themselves. Every rank reads the rows in their own order, so that all agree without a
    word, and takes its share of every batch. Where an order is asked for, the rows of 16 batches at
    a time are shuffled by seed and epoch: rows that are sorted by class are better shuffled by the
    dataset's own ``random_shuffle``.

    A row's columns are inputs by keyword, without the target; one column alone is the input.

    Args:
        dataset: of rows with columns that make tensors.
        name: of the split, for messages.
        reading: which column is the target, and the type of floats.

    Raises:
        ReadError: the dataset raises.
    """

    in_memory = False

    def __init__(
        self, dataset: Any, name: str = "train", *, reading: Reading | None = None
    ) -> None:
        self.name, self.reading = name, reading or Reading()
        with _order_preserved(dataset), self._told(dataset):
            self.dataset = dataset.materialize()
            self._count = int(self.dataset.count())

    def __len__(self) -> int:
        return self._count

    def batches(
        self,
        order: Order | None,
        size: int,
        *,
        epoch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
    ) -> Iterator[tuple[Nest, Nest]]:
        """Yield one rank's share of every batch; see ``Split``.

        Raises:
            ReadError: the dataset raises.
            ValueError, TypeError: a column makes no tensor.
        """
        window = size if order is None else WINDOW * size
        for at, (inputs, targets) in enumerate(self._windows(window)):
            count = rows(inputs)
            turn = np.arange(count)
            if order is not None:
                turn = np.random.default_rng([seed, epoch, at]).permutation(count)
            for start, stop in bounds(count, None if order is None else turn, size):
                index = torch.from_numpy(turn[start + rank : stop : world])
                if len(index):
                    yield self._share(inputs, targets, index, device)

    def held(self, index: Indices | None = None) -> MemorySplit:
        """Read these rows, or all, into memory."""
        wanted = np.arange(len(self)) if index is None else np.asarray(index, dtype=np.int64)
        rising, places = np.unique(wanted, return_inverse=True)
        parts, start = [], 0
        for inputs, targets in self._windows(CHUNK):
            here = rising[(rising >= start) & (rising < start + rows(inputs))] - start
            if len(here):
                parts.append(self._rows(inputs, targets, torch.from_numpy(here)))
            start += rows(inputs)
            if len(rising) and start > rising[-1]:
                break
        split = MemorySplit(*joined(parts), prepare=self.reading.prepare)
        return split if index is None else split.held(places)

    def nbytes(self) -> int:
        """Return how many bytes all rows would take, judged by the first few."""
        count = min(FIRST, len(self))
        return self.held(range(count)).nbytes() * len(self) // count

    def in_float32(self) -> RaySplit:
        """Return the split with floats of the weights' own type."""
        other = copy.copy(self)
        other.reading = replace(self.reading, float32=True)
        return other

    def _share(
        self, inputs: Nest, targets: Nest, index: Tensor, device: torch.device | None
    ) -> tuple[Nest, Nest]:
        inputs, targets = self._rows(inputs, targets, index)
        if device is not None:
            inputs, targets = moved(inputs, device), moved(targets, device)
        return self.reading.prepare(inputs), targets

    def _rows(self, inputs: Nest, targets: Nest, index: Tensor) -> tuple[Nest, Nest]:
        return taken(inputs, index), None if targets is None else taken(targets, index)

    def _windows(self, size: int) -> Iterator[tuple[Nest, Nest]]:
        """Yield the rows, so many at a time, in their own order."""
        with _order_preserved(self.dataset):
            with self._told(self.dataset):
                batches = iter(self.dataset.iter_batches(batch_size=size, batch_format="numpy"))
            while True:
                with self._told(self.dataset):
                    columns = next(batches, None)
                    batch = None if columns is None else _tensors(columns)
                if batch is None:
                    return
                inputs, targets = example_of(batch, f"{self.name}, a batch", self.reading.labels)
                lone = isinstance(inputs, Mapping) and len(inputs) == 1
                inputs = next(iter(inputs.values())) if lone else inputs
                yield self.reading.settled(inputs, targets)

    @contextmanager
    def _told(self, dataset: Any) -> Iterator[None]:
        """Say in one sentence what a dataset raises."""
        try:
            yield
        except Exception as error:
            kind = type(dataset).__name__
            text = f"data: the {self.name} split, a {kind}, raised {_raised(error)}"
            raise ReadError(text) from error


def _tensors(columns: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a batch's columns as tensors.

    ``iter_torch_batches`` sets the filters of warnings in a thread: what is warned of elsewhere at
    that moment is lost.
    """
    tensors = {}
    for name, column in columns.items():
        array = np.stack(column) if column.dtype == object else np.array(column)
        tensors[name] = torch.from_numpy(array)
    return tensors


def _raised(error: Exception) -> str:
    """Return what a worker raised, which stands first in the tracebacks of Ray's own errors."""
    first, above, _ = str(error).partition("The above exception")
    lines = [line for line in first.splitlines() if line[:1].isalpha()] if above else []
    return next((line for line in lines if not line.startswith("Traceback")), in_words(error))


@contextmanager
def _order_preserved(dataset: Any) -> Iterator[None]:
    """Let Ray Data give rows in the order of their blocks, which is the same in all processes."""
    options = dataset.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        yield
    finally:
        options.preserve_order = before
