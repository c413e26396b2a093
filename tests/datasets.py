"""Datasets of tests: items of every form, one by one or in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from raynas.data.readers import Loading
from raynas.data.reading import Reading
from raynas.data.split import Split
from raynas.data.streamed import StreamedSplit

COUNT, SIZE = 23, 6


def pixels(index: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(index).integers(256, size=shape, dtype=np.uint8)


def rows(index: int) -> Tensor:
    return torch.arange(4.0) + index


ITEMS: dict[str, Callable[[int], Any]] = {
    "tensor and class": lambda i: (rows(i), i % 3),
    "two inputs": lambda i: (rows(i), pixels(i, 2), i % 3),
    "dict": lambda i: {"x": rows(i), "n": i, "labels": i % 3},
    "dict in a pair": lambda i: ({"a": rows(i), "b": (i, rows(i))}, [0.5, i]),
    "no labels": rows,
    "tokens": lambda i: {"ids": [i, 1, 2], "mask": [True, False, True]},
    "numpy": lambda i: (rows(i).double().numpy(), np.float32(i)),
    "image": lambda i: (Image.fromarray(pixels(i, 5, 4, 3)), i % 3),
    "mask": lambda i: (pixels(i, 3, 4, 5), Image.fromarray(pixels(i, 4, 5) % 2)),
}


class Items(Dataset[Any]):
    """Items that a function makes."""

    def __init__(self, make: Callable[[int], Any], count: int = COUNT) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.make(index)


class InTurn(IterableDataset[Any]):
    """The same, one after another."""

    def __init__(self, make: Callable[[int], Any], count: int = COUNT, says: int = COUNT) -> None:
        self.make, self.count, self.says = make, count, says

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[Any]:
        return map(self.make, range(self.count))


def streamed(dataset: Any, workers: int = 0, **reading: Any) -> StreamedSplit:
    return StreamedSplit(dataset, reading=Reading(**reading), loading=Loading(workers))


def order_of(count: int = COUNT) -> Any:
    return np.random.default_rng(7).permutation(count)


def batches(split: Split, order: Any = None, *, epoch: int = 0, seed: int = 0, **ranks: Any) -> Any:
    return list(split.batches(order, SIZE, epoch=epoch, seed=seed, **ranks))


def plain_dataset() -> TensorDataset:
    return TensorDataset(torch.stack([rows(i) for i in range(COUNT)]), torch.arange(COUNT) % 3)


class Padded:
    """Pads sequences to the longest of a batch."""

    def __call__(self, items: list[Any]) -> Any:
        xs = torch.nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
        return {"ids": xs, "labels": torch.tensor([y for _, y in items])}


def ragged(index: int) -> Any:
    return torch.arange(1 + index % 5), index % 3
