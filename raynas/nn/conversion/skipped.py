"""What stands where a part of a network is left out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Skipped(nn.Module):
    """Passes its first tensor on, or gives zeros of its shape, in the form of what it replaces.

    Args:
        zero: whether what is left out is a term of a sum.
        nones: None for a lone tensor; else how many Nones follow it in a tuple.
    """

    def __init__(self, zero: bool, nones: int | None = None) -> None:
        super().__init__()
        self.zero = zero
        self.nones = nones

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the first tensor of floating-point numbers among the arguments, or zeros."""
        x = first_tensor((args, kwargs))
        out = torch.zeros_like(x) if self.zero else x
        return out if self.nones is None else (out, *(None,) * self.nones)

    def extra_repr(self) -> str:
        """Return what it gives."""
        return "zeros" if self.zero else "its input"


def first_tensor(given: Any) -> Tensor:
    """Return the first tensor of floating-point numbers in nested tuples, lists and dicts.

    Raises:
        ValueError: there is none.
    """
    stack = [given]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor) and item.is_floating_point():
            return item
        if isinstance(item, dict):
            stack.extend(reversed(item.values()))
        elif isinstance(item, tuple | list):
            stack.extend(reversed(item))
    raise ValueError("a layer that is left out was given no tensor to pass on")
