"""One part of a data set, such as its training examples, whatever it is held in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raynas.core.nest import Nest, mapped, moved, rows
from raynas.data.examples import as_float32, model_inputs, size_of

Order = NDArray[np.integer[Any]]
Indices = Order | Sequence[int]


class Split(ABC):
    """Examples that are read in batches: inputs and targets, nests with the batch first.

    Inputs come as a model gets them; targets are None where the data have none.

    Attributes:
        in_memory: whether the examples are tensors in memory, and no data set is read any more.
    """

    in_memory: ClassVar[bool]

    @property
    def alike(self) -> bool:
        """Whether examples have one shape, so that ranks can exchange theirs."""
        return True

    @abstractmethod
    def __len__(self) -> int:
        """How many examples there are."""

    @abstractmethod
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
        """Yield one rank's share of every batch: ``order[start + rank : start + size : world]``.

        Args:
            order: of the examples, shape (examples,), the same on all ranks, of which the
                incomplete last batch is left out; None reads them as they are stored, to the last.
            size: of a batch of all ranks.
            epoch: that random transforms are drawn for.
            seed: of these.
            rank: of this process, from 0.
            world: how many ranks there are.
            device: where the batches are to lie; None leaves them where they are.
        """

    @abstractmethod
    def held(self, index: Indices | None = None) -> MemorySplit:
        """Return these examples in memory, as they are stored; None takes all.

        What is random is drawn as in epoch 0 of seed 0.
        """

    @abstractmethod
    def nbytes(self) -> int:
        """Return how many bytes the examples take in memory; an estimate where they are read."""

    @abstractmethod
    def in_float32(self) -> Split:
        """Return the split with floats of the weights' own type."""

    def some(self, index: Indices) -> tuple[Nest, Nest]:
        """Return inputs, as a model gets them, and targets of these examples, in memory."""
        part = self.held(index)
        return part.prepare(part.inputs), part.targets

    def example(self, count: int) -> Nest:
        """Return the inputs of the first examples, fewer if there are fewer."""
        return self.some(range(min(count, len(self))))[0]

    def to(self, device: torch.device) -> Split:
        """Return the split on a device, where it is held in memory; else as it is."""
        return self


class MemorySplit(Split):
    """Examples in memory.

    Args:
        inputs: nest of tensors, shapes (examples, ...), images as uint8 or floats.
        targets: nest of tensors, shapes (examples, ...); None without labels.
        prepare: makes of a batch of inputs what a model gets.

    Raises:
        ValueError: there are no tensors, or they are of different lengths.
    """

    in_memory = True

    def __init__(
        self,
        inputs: Nest,
        targets: Nest = None,
        *,
        prepare: Callable[[Nest], Nest] = model_inputs,
    ) -> None:
        self.inputs, self.targets, self.prepare = inputs, targets, prepare
        self._count = rows(inputs if targets is None else (inputs, targets))

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
        """Yield one rank's share of every batch; see ``Split``."""
        for start, stop in bounds(len(self), order, size):
            index: Any = slice(start + rank, stop, world)
            if order is not None:
                index = torch.from_numpy(order[index])
            inputs, targets = self._taken(index)
            if device is not None:
                inputs, targets = moved(inputs, device), moved(targets, device)
            if rows(inputs):
                yield self.prepare(inputs), targets

    def held(self, index: Indices | None = None) -> MemorySplit:
        """Return these examples; None takes all, without copying."""
        if index is None:
            return self
        every = torch.from_numpy(np.asarray(index, dtype=np.int64))
        return MemorySplit(*self._taken(every), prepare=self.prepare)

    def nbytes(self) -> int:
        """Return how many bytes the examples take."""
        return size_of((self.inputs, self.targets))

    def in_float32(self) -> MemorySplit:
        """Return the split with floats of the weights' own type."""
        inputs, targets = as_float32(self.inputs), as_float32(self.targets)
        return MemorySplit(inputs, targets, prepare=self.prepare)

    def to(self, device: torch.device) -> MemorySplit:
        """Return the split on a device."""
        inputs, targets = moved(self.inputs, device), moved(self.targets, device)
        return MemorySplit(inputs, targets, prepare=self.prepare)

    def _taken(self, index: slice | Tensor) -> tuple[Nest, Nest]:
        def of(leaf: Tensor) -> Tensor:
            return leaf[index if isinstance(index, slice) else index.to(leaf.device)]

        return mapped(of, self.inputs), None if self.targets is None else mapped(of, self.targets)


def split_of(part: tuple[Nest, Nest] | Split) -> Split:
    """Return a part of ``Splits`` as a split: a pair of inputs and targets is held in memory."""
    return part if isinstance(part, Split) else MemorySplit(*part)


def bounds(count: int, order: Order | None, size: int) -> Iterator[tuple[int, int]]:
    """Yield where every batch starts and stops in the order, or in what is stored."""
    last = count if order is None else len(order) - size + 1
    for start in range(0, last, size):
        yield start, start + size if order is not None else min(start + size, count)
