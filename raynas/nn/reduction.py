"""Joining several tensors into one, as choices do with what they picked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from raynas.core.errors import InvalidSpace, nearest

Reduction = Literal["sum", "mean", "concat", "none"]


def checked_reduction(name: str, where: str) -> Reduction:
    """Return the name if it is one of sum, mean, concat and none; else raise InvalidSpace."""
    reductions: tuple[Reduction, ...] = get_args(Reduction)
    for reduction in reductions:
        if reduction == name:
            return reduction
    raise InvalidSpace(f"{where}: no reduction is named {name!r}; {nearest(str(name), reductions)}")


def reduce(tensors: Sequence[Any], reduction: Reduction, dim: int = 1) -> Any:
    """Return the sum, mean, or concatenation of at least one tensor, or the list of them."""
    if reduction == "none":
        return list(tensors)
    if reduction == "concat":
        return torch.cat(list(tensors), dim) if len(tensors) > 1 else tensors[0]
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor  # out of place: the first may be somebody else's
    return total / len(tensors) if reduction == "mean" and len(tensors) > 1 else total


def mask_of(count: int, picked: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Return a boolean vector of shape (count,), true where picked; it lies on ``device``."""
    mask = torch.zeros(count, dtype=torch.bool, device=device)
    mask[list(picked)] = True
    return mask
