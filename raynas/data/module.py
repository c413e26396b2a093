"""What a data set is to raynas: three splits of examples, and an augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from raynas.core.nest import Nest, leaves, mapped, moved, signature
from raynas.core.registry import Registry
from raynas.data.examples import is_class_index
from raynas.data.split import MemorySplit, Split, split_of
from raynas.tasks import Task
from raynas.tasks.classification import Classification

Examples = tuple[Nest, Nest]  # inputs and targets in memory
Part = Any  # examples in memory, or a Split
NAMES = ("train", "valid", "test")
ROWS = 1024  # examples that are looked at together


class DataWarning(UserWarning):
    """Says in what form data are used, where it is not the form they came in."""


@dataclass(frozen=True)
class Splits:
    """The examples of each split.

    Either a pair of inputs and targets in memory, nests of tensors of shape (count, ...), the
    targets None without labels; or a ``Split``. Inputs that were computed from weights are cut off
    from these.
    """

    train: Part
    valid: Part
    test: Part = None

    def __post_init__(self) -> None:
        for name, part in zip(NAMES, self.parts(), strict=True):
            if isinstance(part, tuple) and any(leaf.requires_grad for leaf in leaves(part[0])):
                detached = mapped(lambda leaf: leaf.detach(), part[0])
                object.__setattr__(self, name, (detached, part[1]))

    def to(self, device: torch.device) -> Splits:
        """Return the splits on a device, as far as they are in memory."""
        return Splits(*(_on(part, device) for part in self.parts()))

    def parts(self) -> tuple[Part, Part, Part]:
        """Return train, valid and test."""
        return self.train, self.valid, self.test

    def check_classes(self) -> None:
        """Check class indices in memory; targets of other kinds, and what is streamed, pass.

        Raises:
            ValueError: one is negative, or the training split has examples of one class only.
        """
        for name, _, targets in self._in_memory():
            if not is_class_index(targets) or not len(targets):
                continue
            lowest, highest = int(targets.min()), int(targets.max())
            if lowest < 0:
                raise ValueError(f"data: {name} has the class index {lowest}, which is negative")
            if name == "train" and lowest == highest:
                raise ValueError(
                    f"data: the train split has only one class, {lowest}, in {len(targets)} "
                    "examples; expected two at least"
                )

    def check_finite(self) -> None:
        """Check that inputs and targets in memory are finite numbers; what is streamed passes.

        Raises:
            ValueError: one is not; the first example that holds one is named.
        """
        for name, inputs, targets in self._in_memory():
            for what, nest in (("inputs", inputs), ("targets", targets)):
                held = [leaf for leaf in leaves(nest) if isinstance(leaf, Tensor)]
                bad = [at for leaf in held if (at := _first_nonfinite(leaf)) is not None]
                if bad:
                    raise ValueError(
                        f"data: {name}[{min(bad)}] has {what} that are infinite or no numbers; "
                        "replace them, or leave the example out"
                    )

    def _in_memory(self) -> list[tuple[str, Nest, Nest]]:
        """Return name, inputs and targets of every split in memory."""
        named = [(n, part) for n, part in zip(NAMES, self.parts(), strict=True) if part is not None]
        splits = [(name, split_of(part)) for name, part in named]
        return [(n, s.inputs, s.targets) for n, s in splits if isinstance(s, MemorySplit)]


def _on(part: Part, device: torch.device) -> Part:
    if isinstance(part, Split):
        return part.to(device)
    return None if part is None else tuple(moved(nest, device) for nest in part)


def _first_nonfinite(leaf: Tensor) -> int | None:
    """Return the first example with a number that is none."""
    if leaf.is_floating_point() and leaf.numel():
        for at, rows in enumerate(leaf.reshape(len(leaf), -1).split(ROWS)):
            bad = (~rows.isfinite()).any(1)
            if bad.any():
                return at * ROWS + int(bad.nonzero()[0])
    return None


class DataModule:
    """A data set: how its splits are read, and how training batches are augmented.

    Attributes:
        name: what the configuration calls it.
        input_shape: of one example; None where its inputs are no single tensor.
        num_classes: how many classes there are; None where targets are no class indices.
        batch_size: a sensible one for training.
        task: what is to be learned.
        at_hand: whether ``load`` takes no time, since nothing large is read.
        device: where all splits lie; None if that is left to who trains.
    """

    name: str
    input_shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    batch_size: int = 128
    task: Task = Classification()
    at_hand: ClassVar[bool] = False
    device: torch.device | None = None

    def check(self, splits: Splits) -> None:
        """Check what only loading shows.

        Raises:
            ValueError: of a classification, a negative class, or only one class to train on; of
                other tasks, one example to validate on.
        """
        if isinstance(self.task, Classification):
            splits.check_classes()
        elif len(split_of(splits.valid)) < 2:
            raise ValueError(
                f"data: the valid split has one example, and the metrics of {self.task.name} need "
                "two at least"
            )

    def learning(self, task: Task) -> DataModule:
        """Return the data as another task takes them."""
        other = copy.copy(self)
        other.task = task
        return other

    @property
    def width(self) -> int | None:
        """How many outputs a model needs for the targets; None if that is not known."""
        if isinstance(self.task, Classification):
            return self.num_classes
        if not self.at_hand:
            return None
        parts = [split_of(part) for part in self.load().parts() if part is not None]
        held = [part.targets for part in parts if isinstance(part, MemorySplit)]
        widths = [width for targets in held if (width := self.task.width(targets)) is not None]
        return max(widths, default=None)

    @property
    def signature(self) -> Any:
        """Shapes, without the batch, and dtypes of the inputs as a model gets them.

        See ``raynas.core.nest.signature``. One tensor of float32 where ``input_shape`` is set, else
        those of the first training example.
        """
        if self.input_shape is not None:
            return {"shape": list(self.input_shape), "dtype": "float32"}
        return signature(split_of(self.load().train).example(1))

    def load(self) -> Splits:
        """Read the data; called once in every process that needs it."""
        raise TypeError(f"{type(self).__name__} must define load()")

    @property
    def augments(self) -> bool:
        """Whether ``augment`` may change a batch."""
        return type(self).augment is not DataModule.augment

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return the inputs of a training batch, changed at random or as they are.

        The batch is that of all ranks, each of which does the same to all of it.
        """
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
