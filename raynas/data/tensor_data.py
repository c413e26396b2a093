"""Data from anybody's torch datasets."""

from __future__ import annotations

import copy
import operator
import random
import warnings
from collections.abc import Sequence, Sized
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from raynas.data.module import DataModule, DataWarning, Examples, Splits


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
