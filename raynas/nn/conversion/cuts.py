"""What a smaller network keeps of a tensor: ranges or positions along its dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Range = tuple[int, int]  # first position, and how many


@dataclass(frozen=True, eq=False)
class Cut:
    """Keeps a part of a tensor.

    Attributes:
        ranges: by dimension, what is kept where that is one stretch: a view.
        positions: by dimension, what is kept otherwise: a copy.
    """

    ranges: Mapping[int, Range]
    positions: Mapping[int, Tensor]
    _slices: tuple[slice, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        last = max(self.ranges, default=-1)
        whole = {dim: slice(None) for dim in range(last + 1)}
        parts = {dim: slice(start, start + size) for dim, (start, size) in self.ranges.items()}
        object.__setattr__(self, "_slices", tuple((whole | parts).values()))

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return what is kept."""
        if self._slices:
            tensor = tensor[self._slices]
        for dim, positions in self.positions.items():
            tensor = tensor.index_select(dim, positions.to(tensor.device))
        return tensor

    @property
    def is_view(self) -> bool:
        """Whether what is kept shares memory with the tensor."""
        return not self.positions

    def write(self, tensor: Tensor, value: Tensor) -> None:
        """Write into what is kept of a tensor that is cut along one dimension."""
        if self._slices:
            tensor = tensor[self._slices]
        ((dim, positions),) = self.positions.items()
        tensor.index_copy_(dim, positions.to(tensor.device), value)


def cut_of(kept: Mapping[int, Tensor], sizes: tuple[int, ...]) -> Cut | None:
    """Return the cut that keeps these positions, rising, by dimension; None if that is all."""
    ranges: dict[int, Range] = {}
    positions: dict[int, Tensor] = {}
    for dim, at in kept.items():
        if len(at) == sizes[dim]:
            continue
        if int(at[-1]) - int(at[0]) + 1 == len(at):
            ranges[dim] = (int(at[0]), len(at))
        else:
            positions[dim] = at
    return Cut(ranges, positions) if ranges or positions else None


def kept_positions(size: int, left_out: list[Tensor]) -> Tensor:
    """Return the positions of a dimension that stay, rising."""
    mask = torch.ones(size, dtype=torch.bool)
    for positions in left_out:
        mask[positions.flatten()] = False
    return mask.nonzero().flatten()
