"""Class indices: how many outputs they need, and whether they fit a model's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from raynas.core.nest import described


def is_integer(target: Any) -> bool:
    """Return whether it is a tensor of whole numbers."""
    return isinstance(target, Tensor) and not (
        target.is_floating_point() or target.is_complex() or target.dtype == torch.bool
    )


def classes_in(targets: Any, ignore_index: int | None = None) -> int | None:
    """Return one more than the highest class; None if there are no classes.

    Args:
        targets: class indices, of any shape.
        ignore_index: that stands for no class.
    """
    if not is_integer(targets):
        return None
    valid = _valid(targets, ignore_index)
    return int(valid.max()) + 1 if valid.numel() else None


def _valid(targets: Tensor, ignore_index: int | None) -> Tensor:
    targets = targets.long()  # bytes would be compared with another number than -100
    return targets if ignore_index is None else targets[targets != ignore_index]


def check_scores(output: Any, dimensions: int, shape: str, where: str) -> None:
    """Raise ValueError unless an output is of floats and has at least so many dimensions.

    Args:
        output: of a model.
        dimensions: at least, the batch being one.
        shape: that is expected, in words.
        where: that the batch comes from.
    """
    fits = isinstance(output, Tensor) and output.is_floating_point() and output.dim() >= dimensions
    if not fits:
        raise ValueError(
            f"{where}: the model returns {described(output)}, expected logits of shape {shape}"
        )


def check_classes(
    targets: Tensor,
    outputs: int,
    *,
    width: int | None,
    where: str,
    ignore_index: int | None = None,
) -> None:
    """Raise ValueError if a class is out of range.

    Args:
        targets: class indices, of any shape.
        outputs: how many the model gives.
        width: how many the classes of all data need; None if that is not known.
        where: that the targets come from.
        ignore_index: that stands for no class.
    """
    valid = _valid(targets, ignore_index)
    lowest = int(valid.min()) if valid.numel() else 0
    highest = max(int(valid.max()) if valid.numel() else 0, (width or 1) - 1)
    wrong = lowest if lowest < 0 else highest
    if lowest < 0 or highest >= outputs:
        ignored = "" if ignore_index is None else f" (or {ignore_index}, which is ignored)"
        raise ValueError(
            f"{where}: the label {wrong} is out of range: the model gives {outputs} "
            f"output{'' if outputs == 1 else 's'}, for labels from 0 to {outputs - 1}{ignored}"
        )


def class_weights_of(given: Sequence[float] | None, task: str) -> tuple[float, ...] | None:
    """Return weights of classes as a tuple of floats.

    Raises:
        ValueError: one is negative or no finite number, or all are 0.
    """
    if given is None:
        return None
    weights = tuple(float(weight) for weight in given)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(
            f"task {task!r}: class_weights must be finite, at least 0 and not all 0, got {weights}"
        )
    return weights


def check_weights(
    weights: Sequence[float] | None, outputs: int, where: str, option: str = "class_weights"
) -> None:
    """Raise ValueError unless there is a weight for each output."""
    if weights is not None and len(weights) != outputs:
        raise ValueError(
            f"{where}: {option} holds {len(weights)} numbers, and the model gives {outputs} outputs"
        )


def as_tensor(weights: float | Sequence[float] | None, like: Tensor) -> Tensor | None:
    """Return weights as a tensor of the type and device of another."""
    return None if weights is None else like.new_tensor(weights)
