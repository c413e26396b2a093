"""Data that were read once, for evaluators that look at them again and again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raynas.core.nest import moved
from raynas.data.module import DataModule, Examples, Splits


class Loaded(DataModule):
    """Another module's data, read and moved to a device when this is made.

    Args:
        data: the module.
        device: where its splits are to lie.
    """

    def __init__(self, data: DataModule, device: torch.device) -> None:
        self.name, self.device = data.name, device
        self.input_shape, self.num_classes = data.input_shape, data.num_classes
        self.task, self.batch_size = data.task, data.batch_size
        self._source, self._splits = data, data.load().to(device)

    @property
    def signature(self) -> Any:
        """Shapes and dtypes of the inputs, as the module says."""
        return self._source.signature

    def load(self) -> Splits:
        """Return the splits, always the same tensors."""
        return self._splits

    @property
    def augments(self) -> bool:
        """Whether the module does."""
        return self._source.augments

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return a training batch as the module changes it."""
        return self._source.augment(x, rng)

    def epoch_examples(self) -> Examples | None:
        """Return the training split of one epoch, on the device, or None as the module does."""
        examples = self._source.epoch_examples()
        return examples and moved(examples, self.device)
