"""What reads whole batches of a data set, in this process or in others that read ahead."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from raynas.core.nest import Nest
from raynas.data.errors import ReadError, ReadersRestarted
from raynas.data.reading import Reading, read, read_in_turn
from raynas.data.seeding import random_states_kept, seed_example

DIED = "DataLoader worker"  # what torch's message begins with
ATTEMPTS = 4  # at one pass over a split
READERS = 2  # loader workers where nobody says how many
Batch = tuple[Nest, Nest]


@dataclass(frozen=True)
class Loading:
    """Who reads a streamed split.

    Attributes:
        workers: processes that read batches ahead; 0 reads in the process that uses them. None
            takes two, or as many as there are CPUs for this process if these are fewer.
        prefetch: batches that each of them is ahead at most.
        pin_memory: whether batches for a GPU are put into pinned memory.

    Raises:
        ValueError: a negative number of workers, or nothing to be read ahead.
    """

    workers: int | None = None
    prefetch: int = 2
    pin_memory: bool = True

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"data: loader_workers is 0 or more, got {self.workers}")
        if self.prefetch < 1:
            raise ValueError(f"data: prefetch is 1 or more, got {self.prefetch}")

    def count(self) -> int:
        """Return how many processes read."""
        return min(READERS, len(os.sched_getaffinity(0))) if self.workers is None else self.workers


class Key(NamedTuple):
    """A batch that is to be read.

    Attributes:
        seed: of what random transforms draw.
        epoch: that they draw for.
        indices: of its examples; those of an iterable data set rise from batch to batch.
        begins: whether it is the first of an epoch.
    """

    seed: int
    epoch: int
    indices: list[int]
    begins: bool


@dataclass
class Failure:
    """What was raised in the place of a batch; torch would wrap it into its own traceback."""

    error: Exception | None


class MapReader(Dataset[Any]):
    """Reads batches of a map-style data set.

    Args:
        dataset: with items by index.
        split: that it is, for messages.
        reading: how items become batches.
    """

    def __init__(self, dataset: Any, split: str, reading: Reading) -> None:
        self.dataset, self.split, self.reading = dataset, split, reading

    def __getitem__(self, key: Key) -> Batch | Failure:
        """Return a batch, or what was raised instead."""
        try:
            return self.reading.batch(self._items(key), self.split, key.indices)
        except Exception as error:
            return Failure(error)

    def _items(self, key: Key) -> list[Any]:
        items = []
        for index in key.indices:
            seed_example(key.seed, key.epoch, index)
            items.append(read(self.dataset, index, self.split))
        return items


class IterableReader(MapReader):
    """Reads batches of an iterable data set, one after another, from its beginning in every epoch.

    Items that are not asked for are passed over, and drawn for all the same.
    """

    _turn: Iterator[tuple[int, Any]] | None = None

    def _items(self, key: Key) -> list[Any]:
        if key.begins or self._turn is None:
            self._turn = enumerate(
                read_in_turn(
                    self.dataset,
                    self.split,
                    lambda position: seed_example(key.seed, key.epoch, position),
                )
            )
        return [next(item for at, item in self._turn if at == index) for index in key.indices]


def reader_of(dataset: Any, split: str, reading: Reading) -> MapReader:
    """Return what reads batches of a data set."""
    kind = IterableReader if isinstance(dataset, IterableDataset) else MapReader
    return kind(dataset, split, reading)


def read_here(reader: MapReader, keys: Iterable[Key]) -> Iterator[Batch]:
    """Yield batches that this process reads; its global random states stay as they were."""
    for key in keys:
        with random_states_kept():
            batch = reader[key]
        yield checked(batch)


class Loaders:
    """Processes that read ahead, kept from epoch to epoch.

    Two iterations that go on at the same time each have processes of their own.

    Args:
        reader: of batches.
        loading: how many processes there are.
    """

    def __init__(self, reader: MapReader, loading: Loading) -> None:
        self._reader, self._loading = reader, loading
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {"_reader": self._reader, "_loading": self._loading}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._idle: dict[bool, list[DataLoader[Any]]] = {True: [], False: []}
        # Collected as part of a circle, torch's iterators wait 5 s for each process in vain.
        weakref.finalize(self, _dismiss, self._idle)

    def read(self, keys: Iterable[Key], workers: int, *, pinned: bool) -> Iterator[Batch]:
        """Yield the batches of these keys, in order.

        Where a process ends unexpectedly, others begin with the first batch that has not come,
        three times at most: a batch depends on its key alone.

        Raises:
            ReadError: processes went on ending; or what the reader says.
        """
        turn = _Turn(keys)
        for left in reversed(range(ATTEMPTS)):
            try:
                yield from self._attempt(turn, workers, pinned)
                return
            except _Ended:
                pass
            if left:
                text = f"{self._ended}; others go on with batch {turn.came + 1}, which is the same"
                warnings.warn(text, ReadersRestarted, stacklevel=2)
        raise ReadError(
            f"{self._ended}, {ATTEMPTS} times, out of memory perhaps; use fewer loader_workers "
            f"than {workers}"
        )

    @property
    def _ended(self) -> str:
        return f"data: a process that reads the {self._reader.split} split ended unexpectedly"

    def _attempt(self, turn: _Turn, workers: int, pinned: bool) -> Iterator[Batch]:
        """Yield the batches that have not come yet.

        Raises:
            _Ended: a process ended.
        """
        idle = self._idle[pinned]
        loader: DataLoader[Any] | None = idle.pop() if idle else self._made(workers, pinned)
        assert loader is not None
        loader.sampler.turn = turn  # type: ignore[attr-defined]
        try:
            for batch in _iterated(loader):
                turn.arrived()
                yield checked(batch)
        except GeneratorExit:
            idle.append(loader)  # what was read ahead is thrown away by the next iteration
            raise
        except Exception as error:
            loader = None  # ends its processes, which the error's traceback would keep
            # what a process that ended has sent cannot be fetched from it any more
            died = isinstance(error, OSError | EOFError) or str(error).startswith(DIED)
            if not died:
                raise
        if loader is None:
            raise _Ended
        idle.append(loader)

    def _made(self, workers: int, pinned: bool) -> DataLoader[Any]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            return DataLoader(
                self._reader,
                batch_size=None,
                sampler=_Sampler(),
                num_workers=workers,
                collate_fn=_as_it_is,
                prefetch_factor=self._loading.prefetch,
                pin_memory=pinned,
                persistent_workers=True,
                generator=torch.Generator(),  # else one number is drawn from the global one
                worker_init_fn=_begin_reading,
            )


def _dismiss(idle: dict[bool, list[DataLoader[Any]]]) -> None:
    for loaders in idle.values():
        loaders.clear()


class _Ended(Exception):
    """A process that reads ended unexpectedly."""


class _Turn:
    """The keys of one iteration, in the order in which their batches come.

    Args:
        keys: of all its batches.

    Attributes:
        came: how many batches came.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys, self._awaited, self.came = iter(keys), deque[Key](), 0

    def __iter__(self) -> Iterator[Key]:
        """Yield the keys whose batches have not come, also those that were asked for before."""
        yield from tuple(self._awaited)
        for key in self._keys:
            self._awaited.append(key)
            yield key

    def arrived(self) -> None:
        """Count the next batch."""
        self._awaited.popleft()
        self.came += 1


class _Sampler:
    """Where a DataLoader expects one."""

    turn: _Turn

    def __iter__(self) -> Iterator[Key]:
        return iter(self.turn)


def _iterated(loader: DataLoader[Any]) -> Iterator[Batch | Failure]:
    with _collection_put_off(), _signals_kept(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        return iter(loader)


@contextmanager
def _collection_put_off() -> Iterator[None]:
    """Let processes begin without collecting garbage; see ``_begin_reading``."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave it to the next batch to say that a process ended.

    torch has it raised by a signal handler too, wherever the main thread happens to be, and again
    for every other process that ends.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def _begin_reading(_: int) -> None:
    """Never collect what a forked process has of its parent.

    There may be garbage iterators of other loaders, and those end their own processes when they are
    collected, in whatever process that is.
    """
    gc.freeze()
    gc.enable()


def _as_it_is(batch: Any) -> Any:
    return batch


def checked(batch: Batch | Failure) -> Batch:
    """Return a batch that was read.

    Raises:
        Exception: what was raised in its place.
    """
    if not isinstance(batch, Failure):
        return batch
    error, batch.error = batch.error, None
    assert error is not None
    try:
        raise error
    finally:
        del error  # else its traceback is a circle, and processes that read end late
