"""What a data set is to raynas: three splits held as tensors, and an augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raynas.core.registry import Registry

Examples = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Splits:
    """Inputs, shape (count, ...), and class indices, shape (count,), of each split."""

    train: Examples
    valid: Examples
    test: Examples | None = None

    def to(self, device: torch.device) -> Splits:
        """Return the splits on a device."""
        moved = [None if s is None else (s[0].to(device), s[1].to(device)) for s in self.parts()]
        assert moved[0] is not None
        assert moved[1] is not None
        return Splits(moved[0], moved[1], moved[2])

    def parts(self) -> tuple[Examples, Examples, Examples | None]:
        """Return train, valid and test."""
        return self.train, self.valid, self.test


class DataModule:
    """A classification data set that fits into memory.

    Attributes:
        name: what the configuration calls it.
        input_shape: of one example.
        num_classes: how many classes there are.
        batch_size: a sensible one for training.
    """

    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    batch_size: int = 128

    def load(self) -> Splits:
        """Read the data; called once in every process that needs it."""
        raise TypeError(f"{type(self).__name__} must define load()")

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return a training batch, changed at random or as it is."""
        return x


class TensorData(DataModule):
    """Data from a ``(train, valid[, test])`` tuple of torch datasets.

    Args:
        datasets: each with a length, and items of (input tensor, class index).
        name: what the configuration calls it.
        batch_size: for training.

    Raises:
        ValueError: not two or three splits, an empty one, or inputs of different shapes.
        TypeError: an item is not a pair of tensor and class index.
    """

    def __init__(
        self, datasets: Sequence[Any], *, name: str = "own", batch_size: int | None = None
    ) -> None:
        if len(datasets) not in (2, 3):
            raise ValueError(f"data: expected (train, valid[, test]), got {len(datasets)} items")
        names = ("train", "valid", "test")
        stacked = [_stack(d, split) for d, split in zip(datasets, names, strict=False)]
        shapes = {split[0].shape[1:] for split in stacked}
        if len(shapes) > 1:
            raise ValueError(f"data: splits have inputs of different shapes: {sorted(shapes)}")
        self._splits = Splits(stacked[0], stacked[1], stacked[2] if len(stacked) > 2 else None)
        self.name = name
        self.input_shape = tuple(stacked[0][0].shape[1:])
        self.num_classes = 1 + max(int(split[1].max()) for split in stacked)
        if self.num_classes < 2:
            raise ValueError("data: there is only one class")
        self.batch_size = batch_size or min(128, max(1, len(stacked[0][1]) // 30))

    def load(self) -> Splits:
        """Return the splits."""
        return self._splits


def _stack(dataset: Any, split: str) -> Examples:
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        kind = type(dataset).__name__
        raise TypeError(f"data: the {split} split must be a dataset with a length, got a {kind}")
    if not len(dataset):
        raise ValueError(f"data: the {split} split is empty")
    if isinstance(tensors := getattr(dataset, "tensors", None), tuple) and len(tensors) == 2:
        return tensors[0], tensors[1].long()
    inputs, classes = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        if not isinstance(item, tuple | list) or len(item) != 2 or not torch.is_tensor(item[0]):
            raise TypeError(f"data: {split}[{i}] must be (tensor, class index), got {type(item)}")
        inputs.append(item[0])
        classes.append(int(item[1]))
    return torch.stack(inputs), torch.tensor(classes)


DataBuilder = Callable[..., DataModule]
DATA: Registry[DataBuilder] = Registry("data set", "raynas.data")


def shifted(x: Tensor, pixels: int, rng: torch.Generator) -> Tensor:
    """Return images (batch, channels, height, width), each moved by up to ``pixels`` each way."""
    count, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, [pixels] * 4)
    moves = torch.randint(2 * pixels + 1, (2, count, 1), generator=rng)
    rows = (moves[0] + torch.arange(height)).to(x.device)
    columns = (moves[1] + torch.arange(width)).to(x.device)
    every = torch.arange(count, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def flipped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Return images, each mirrored left to right with probability one half."""
    coins = torch.rand(len(x), generator=rng).to(x.device) < 0.5
    return torch.where(coins[:, None, None, None], x.flip(3), x)
