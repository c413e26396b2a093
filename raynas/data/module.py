"""What a data set is to raynas: three splits held as tensors, and an augmentation."""

from __future__ import annotations

import copy
import operator
import random
import warnings
from collections.abc import Callable, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from raynas.core.registry import Registry

Examples = tuple[Tensor, Tensor]


class DataWarning(UserWarning):
    """Says in what form data are used, where it is not the form they came in."""


@dataclass(frozen=True)
class Splits:
    """Inputs, shape (count, ...), and class indices, shape (count,), of each split.

    Inputs that were computed from weights are cut off from these.
    """

    train: Examples
    valid: Examples
    test: Examples | None = None

    def __post_init__(self) -> None:
        """Check that there is something to tell apart.

        Raises:
            ValueError: the training split has examples of one class only.
        """
        for name, examples in zip(("train", "valid", "test"), self.parts(), strict=True):
            if examples is not None and examples[0].requires_grad:
                object.__setattr__(self, name, (examples[0].detach(), examples[1]))
        y = self.train[1]
        if len(y) and not y.is_meta and bool((y == y[0]).all()):
            raise ValueError(
                f"data: the train split has only one class, {int(y[0])}, in {len(y)} examples; "
                "expected two at least"
            )

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

    def as_loaded(self) -> DataModule:
        """Return the data for evaluators that do not train; cheaper to send, if that can be."""
        return self

    def epoch_examples(self) -> Examples | None:
        """Return the training split as it is in one epoch; None if it is as loaded in all.

        What is random is to be drawn from the global generators of torch, numpy or Python: these
        are seeded by seed and epoch where this is called.
        """
        return None


class TensorData(DataModule):
    """Data from a ``(train, valid[, test])`` tuple of torch datasets.

    A training dataset that gives other items when it is read again is read anew for every epoch.
    Its transforms should draw from the global generators of torch, numpy or Python, which are
    seeded for each epoch; what draws from others cannot be repeated.

    Args:
        datasets: each with a length, and items of (input tensor, class index).
        name: what the configuration calls it.
        batch_size: for training.

    Raises:
        ValueError: not two or three splits, an empty one, inputs of different shapes, a negative
            class, or only one class to train on.
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
        # a BatchNorm refuses to train on one example
        self.batch_size = batch_size or min(128, max(2, len(stacked[0][1]) // 30))
        self._varying = datasets[0] if _varies(datasets[0], stacked[0]) else None

    def load(self) -> Splits:
        """Return the splits."""
        return self._splits

    def in_float32(self) -> TensorData:
        """Return the data with inputs of the weights' own type, after a warning if they change."""
        parts = [part for part in self._splits.parts() if part is not None]
        others = [x.dtype for x, _ in parts if x.dtype != torch.float32]
        if not others:
            return self
        text = f"data: inputs of {others[0]} are used in float32, as weights are"
        warnings.warn(text, DataWarning, stacklevel=2)
        other = copy.copy(self)
        other._splits = Splits(*((x.float(), y) for x, y in parts))
        return other

    def as_loaded(self) -> TensorData:
        """Return the data as first read, without the dataset, for evaluators that do not train."""
        other = copy.copy(self)
        other._varying = None
        return other

    def epoch_examples(self) -> Examples | None:
        """Read a training dataset that varies; None if it does not.

        Raises:
            ValueError: there are other numbers of examples than at first, inputs of other shapes,
                or classes that were not there.
        """
        if self._varying is None:
            return None
        x, y = _stack(self._varying, "train")
        now, before = tuple(x.shape), tuple(self._splits.train[0].shape)
        if now != before:
            raise ValueError(
                f"data: the train split has inputs of shape {now}, and had {before} when it was "
                "first read"
            )
        if int(y.max()) >= self.num_classes:
            raise ValueError(
                f"data: the train split has the class {int(y.max())}, and there were only "
                f"{self.num_classes} classes when it was first read"
            )
        return x.to(self._splits.train[0].dtype).detach(), y


def _varies(dataset: Any, examples: Examples) -> bool:
    """Return whether a dataset that is read again gives other items, now or some time."""
    if _two_tensors(dataset):
        return False
    before = _random_states()
    again = (_pair(dataset[i], f"train[{i}]") for i in range(len(dataset)))
    pairs = zip(*examples, again, strict=True)
    differ = any(not _equal(x, other[0]) or y != other[1] for x, y, other in pairs)
    # transforms that are seldom applied draw nevertheless
    return differ or _random_states() != before


def _equal(x: Tensor, y: Tensor) -> bool:
    return (x.shape, x.dtype) == (y.shape, y.dtype) and torch.allclose(
        x, y, rtol=0, atol=0, equal_nan=True
    )


def _random_states() -> tuple[object, ...]:
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002 - which users draw from
    return torch.get_rng_state().numpy().tobytes(), repr(numpys), random.getstate()


def _stack(dataset: Any, split: str) -> Examples:
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        kind = type(dataset).__name__
        raise TypeError(f"data: the {split} split must be a dataset with a length, got a {kind}")
    if not len(dataset):
        raise ValueError(f"data: the {split} split is empty")
    if pair := _two_tensors(dataset):
        x, y = pair
    else:
        items = [_pair(dataset[i], f"{split}[{i}]") for i in range(len(dataset))]
        shapes = {item[0].shape for item in items}
        if len(shapes) > 1:
            raise ValueError(f"data: {split} has inputs of different shapes: {sorted(shapes)}")
        x, y = torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])
    if y.dim() != 1 or y.is_floating_point():
        kind = f"shape {tuple(y.shape)} of {y.dtype}"
        raise TypeError(f"data: {split} must have one class index for each input, got {kind}")
    if not x.is_floating_point():
        raise TypeError(f"data: {split} must have floating-point inputs, got {x.dtype}")
    if int(y.min()) < 0:
        raise ValueError(f"data: {split} has the class index {int(y.min())}, which is negative")
    return x, y.long()


def _two_tensors(dataset: Any) -> tuple[Tensor, ...]:
    """Return the two tensors whose rows are the items, or nothing if more is done to these."""
    plain = type(dataset).__getitem__ is TensorDataset.__getitem__
    return dataset.tensors if plain and len(dataset.tensors) == 2 else ()


def _pair(item: Any, where: str) -> tuple[Tensor, int]:
    listed = isinstance(item, tuple | list)
    if listed and len(item) == 2 and isinstance(item[0], Tensor):
        with suppress(TypeError):
            return item[0], operator.index(item[1])
    kinds = ", ".join(type(part).__name__ for part in (item if listed else [item]))
    raise TypeError(f"data: {where} must be (tensor, class index), got ({kinds})")


DataBuilder = Callable[..., DataModule]
DATA: Registry[DataBuilder] = Registry("data set", "raynas.data", group="raynas.data")


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
