"""Tensors that are made of weights alone, such as weights that are standardised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raynas.nn.conversion.labels import differs_along


@dataclass(frozen=True)
class Lineage:
    """Where the elements of a tensor lay in the weights that it is made of.

    Attributes:
        names: of the weights, all of as many dimensions.
        planes: for each of these dimensions, labels in the tensor's shape.
    """

    names: tuple[str, ...]
    planes: tuple[Tensor, ...]

    @property
    def name(self) -> str | None:
        """Name of the weight, None for several."""
        return self.names[0] if len(self.names) == 1 else None

    def each(self, change: Callable[[Tensor], Any]) -> Lineage:
        """Return the lineage after an operation that is told for labels."""
        return Lineage(self.names, tuple(change(plane) for plane in self.planes))

    def along(self, dim: int) -> int | None:
        """Return which dimension of the weights lies along one of the tensor, the slowest first."""
        varying = (at for at, plane in enumerate(self.planes) if differs_along(plane, dim))
        return next(varying, None)

    @property
    def last(self) -> Tensor:
        """Labels by the last dimension of the weights that lies along any; 0 if none does."""
        varying = set(range(len(self.planes))) - set(self.lost())
        if varying:
            return self.planes[max(varying)]
        return torch.zeros((), dtype=torch.long).expand(self.planes[0].shape)

    def lost(self) -> list[int]:
        """Return the dimensions of the weights of which the tensor holds one place."""
        return [
            at
            for at, plane in enumerate(self.planes)
            if not any(differs_along(plane, dim) for dim in range(plane.dim()))
        ]
