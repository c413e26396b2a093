"""A part of a data set that is read while it is used, and never held together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from raynas.core.nest import Nest, moved
from raynas.data.readers import Batch, Key, Loaders, Loading, read_here, reader_of
from raynas.data.reading import Reading, joined
from raynas.data.seeding import random_states_kept, seed_example
from raynas.data.split import Indices, MemorySplit, Order, Split, bounds

CHUNK = 64  # examples that are read at a time where the caller has no batch size
FIRST = 4  # examples whose size stands for that of all


class StreamedSplit(Split):
    """Examples of a torch dataset, read batch by batch.

    The global generators of torch, numpy and Python are seeded by seed, epoch and index before an
    example is read, so that what random transforms draw depends neither on how many processes read
    nor on what they have read before. An iterable dataset is read in its own order, from its
    beginning in every epoch, by one process: an order is only how many examples there are, and
    every rank takes its share of what all of them read.

    Args:
        dataset: with a length; map-style or iterable.
        name: of the split, for messages.
        reading: how items become batches.
        loading: how many processes read.
        sampler: indices of an epoch, in their order, drawn anew for every epoch; it stands for the
            order that is asked for.
    """

    in_memory = False

    def __init__(
        self,
        dataset: Any,
        name: str = "train",
        *,
        reading: Reading | None = None,
        loading: Loading | None = None,
        sampler: Iterable[Any] | None = None,
    ) -> None:
        self.dataset, self.name, self.sampler = dataset, name, sampler
        self.reading, self.loading = reading or Reading(), loading or Loading()
        self._loaders = Loaders(reader_of(dataset, name, self.reading), self.loading)
        self._count = len(dataset) if sampler is None else len(self._sampled(0, 0))

    def __len__(self) -> int:
        return self._count

    @property
    def alike(self) -> bool:
        """Whether items are stacked; what a ``collate_fn`` makes may have any shape."""
        return self.reading.collate_fn is None

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
            ReadError: the data set raises, or a process that reads ends; the example is named.
            TypeError, ValueError: an example does not fit the others.
        """
        stored = self._stored(order, seed, epoch)
        parts = bounds(len(stored), None if order is None else stored, size)
        shares = (stored[start + rank : stop : world] for start, stop in parts)
        pinned = self.loading.pin_memory and device is not None and device.type == "cuda"
        for inputs, targets in self._read(shares, seed, epoch, self._workers(), pinned):
            if device is not None:
                inputs, targets = moved(inputs, device), moved(targets, device)
            yield self.reading.prepare(inputs), targets

    def held(self, index: Indices | None = None) -> MemorySplit:
        """Read these examples, or all, into memory."""
        wanted = self._stored(None, 0, 0)
        if index is not None:
            wanted = wanted[np.asarray(index, dtype=np.int64)]
        if not self._iterable or index is None:
            return self._held(wanted)
        rising, places = np.unique(wanted, return_inverse=True)
        return self._held(rising).held(places)

    def nbytes(self) -> int:
        """Return how many bytes all examples would take, judged by the first few."""
        first = self._stored(None, 0, 0)[:FIRST]
        return self._held(first).nbytes() * len(self) // max(1, len(first))

    def in_float32(self) -> StreamedSplit:
        """Return the split with floats of the weights' own type."""
        return StreamedSplit(
            self.dataset,
            self.name,
            reading=replace(self.reading, float32=True),
            loading=self.loading,
            sampler=self.sampler,
        )

    @property
    def _iterable(self) -> bool:
        return isinstance(self.dataset, IterableDataset)

    def _workers(self) -> int:
        """Return how many processes read; two of an iterable dataset would read it all twice."""
        return min(1, self.loading.count()) if self._iterable else self.loading.count()

    def _stored(self, order: Order | None, seed: int, epoch: int) -> Order:
        """Return the indices of an epoch."""
        if self.sampler is not None:
            return self._sampled(seed, epoch)
        return np.arange(self._count) if order is None or self._iterable else order

    def _sampled(self, seed: int, epoch: int) -> Order:
        """Return what the sampler, or a sampler of batches, draws in an epoch."""
        assert self.sampler is not None
        with random_states_kept():
            seed_example(seed, epoch, 0)
            _begin(self.sampler, epoch)
            drawn = [index for part in self.sampler for index in _indices(part)]
        return np.asarray(drawn, dtype=np.int64)

    def _held(self, indices: Order) -> MemorySplit:
        """Read examples, in chunks that several processes share where there are many."""
        # a collate_fn pads to the longest of its batch, so that batches cannot be joined
        size = CHUNK if self.reading.collate_fn is None else max(1, len(indices))
        shares = (indices[at : at + size] for at in range(0, len(indices), size))
        workers = self._workers() if len(indices) > 2 * size else 0
        inputs, targets = joined(list(self._read(shares, 0, 0, workers, False)))
        return MemorySplit(inputs, targets, prepare=self.reading.prepare)

    def _read(
        self, shares: Iterable[Order], seed: int, epoch: int, workers: int, pinned: bool
    ) -> Iterator[Batch]:
        keys = _keys(shares, seed, epoch)
        if workers:
            return self._loaders.read(keys, workers, pinned=pinned)
        return read_here(reader_of(self.dataset, self.name, self.reading), keys)


def _keys(shares: Iterable[Order], seed: int, epoch: int) -> Iterator[Key]:
    begins = True
    for share in shares:
        if len(share):
            yield Key(seed, epoch, share.tolist(), begins)
            begins = False


def _begin(sampler: Any, epoch: int) -> None:
    """Let a sampler, and those that it takes indices from, begin an epoch.

    Those of torch may draw from a generator of their own, which is seeded; others have a method
    ``set_epoch``, as torch's ``DistributedSampler`` has.
    """
    while sampler is not None:
        own = getattr(sampler, "generator", None)
        if isinstance(own, torch.Generator):
            own.manual_seed(torch.default_generator.initial_seed())
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        sampler = getattr(sampler, "sampler", None)


def _indices(part: Any) -> Iterator[int]:
    if isinstance(part, Iterable) and not isinstance(part, torch.Tensor):
        yield from part
    else:
        yield int(part)
