"""Outputs and targets that hold one number for each other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from raynas.core.nest import described


def fits(output: Tensor, target: Tensor) -> bool:
    """Return whether shapes are equal, dimensions of size 1 behind the batch left out."""
    return _core(output) == _core(target)


def aligned(output: Tensor, target: Tensor) -> Tensor:
    """Return a target in an output's shape and type; so (n, 1) and (n,) never broadcast.

    >>> import torch
    >>> aligned(torch.zeros(3, 1), torch.tensor([1, 2, 3])).tolist()
    [[1.0], [2.0], [3.0]]

    Raises:
        ValueError: it is of another shape.
    """
    if not fits(output, target):
        raise ValueError(
            f"outputs of shape {tuple(output.shape)} do not fit targets of shape "
            f"{tuple(target.shape)}"
        )
    return target.reshape(output.shape).to(output.dtype)


def outputs_for(targets: Any) -> int | None:
    """Return how many outputs targets of shape (n,) or (n, k) need; None for others."""
    if not isinstance(targets, Tensor) or targets.dim() not in (1, 2):
        return None
    return 1 if targets.dim() == 1 else targets.shape[1]


def check_aligned(output: Any, target: Any, where: str, hint: str) -> None:
    """Raise ValueError unless output and target hold one number for each other.

    Args:
        output: of a model.
        target: of the data.
        where: that the batch comes from.
        hint: what targets are expected.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise ValueError(f"{where}: the model returns {described(output)}, expected floats")
    if not isinstance(target, Tensor) or target.is_complex() or not fits(output, target):
        raise ValueError(
            f"{where}: the targets are {described(target)} and the model returns "
            f"{described(output)}, expected {hint}"
        )


def by_output(values: Tensor) -> Tensor:
    """Return values as (n, outputs); what has more dimensions than two is one output."""
    return values.reshape(len(values), -1) if values.dim() <= 2 else values.reshape(-1, 1)


def _core(tensor: Tensor) -> tuple[int, ...]:
    rows, *others = tensor.shape if tensor.dim() else (1,)
    return (rows, *(size for size in others if size != 1))
