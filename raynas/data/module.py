"""What a data set is to raynas: three splits held as tensors, and an augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

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
