"""What a smaller network keeps of a tensor: stretches or positions along its dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Strides = tuple[int, ...]


@dataclass(frozen=True)
class Stretches:
    """Positions that are kept, as stretches of one length at equal distances.

    Attributes:
        start: first position.
        count: of the stretches.
        step: from one stretch's first position to the next one's.
        size: positions in each.
    """

    start: int
    count: int
    step: int
    size: int

    def dimensions(self) -> tuple[tuple[int, int], ...]:
        """Return sizes and steps: of one dimension, or of two where there are several stretches."""
        inside = (self.size, 1)
        return (inside,) if self.count == 1 else ((self.count, self.step), inside)


Kept = Stretches | Tensor  # along one dimension; positions rise


class Lengths:
    """What stays of a dimension on which the units of axes lie.

    Args:
        size: of the dimension.
        places: positions of the units of each axis, shape (units, width).
    """

    def __init__(self, size: int, places: Sequence[Tensor]) -> None:
        self._sizes = tuple(map(len, places))
        self._axis = np.full(size, len(places), np.min_scalar_type(len(places)))
        self._unit = np.zeros(size, np.min_scalar_type(max(self._sizes)))
        for number, positions in enumerate(places):
            self._axis[positions.numpy()] = number
            self._unit[positions.numpy()] = np.arange(len(positions))[:, None]
        self._made: WeakValueDictionary[tuple[int, ...], Kept] = WeakValueDictionary()

    def kept(self, units: tuple[int, ...]) -> Kept | None:
        """Return what stays if so many units of each axis do; None if that is all.

        Raises:
            ValueError: nothing stays.
        """
        if units == self._sizes:
            return None
        kept = self._made.get(units)
        if kept is None:
            kept = self._made[units] = _kept(self._unit < np.array([*units, 1])[self._axis])
        return kept


def _kept(stays: NDArray[np.bool_]) -> Kept:
    at = np.flatnonzero(stays)
    if not len(at):
        raise ValueError(f"nothing stays of a dimension of {len(stays)}")
    return _stretches(at) or torch.from_numpy(at.astype(np.int32))


def centre(edge: int, size: int) -> Stretches:
    """Return what stays of a dimension of which edges are cut off."""
    return Stretches(edge, 1, 0, size)


def _stretches(at: NDArray[np.int64]) -> Stretches | None:
    """Return rising positions as stretches; None if they are no equal ones."""
    ends = np.flatnonzero(at[1:] - at[:-1] != 1) + 1
    if not len(ends):
        return Stretches(int(at[0]), 1, 0, len(at))
    count, size = len(ends) + 1, int(ends[0])
    if len(at) != count * size or (ends != np.arange(1, count) * size).any():
        return None
    steps = at[size::size] - at[:-size:size]
    if (steps != steps[0]).any():
        return None
    return Stretches(int(at[0]), count, int(steps[0]), size)


class Cut:
    """Keeps a part of a tensor; whatever the tensor's memory looks like, one operation reads it.

    Args:
        kept: by dimension; what is not there stays whole.
        sizes: of the whole tensor.

    Attributes:
        is_view: whether what is kept shares memory with the tensor.
    """

    def __init__(self, kept: Mapping[int, Kept], sizes: tuple[int, ...]) -> None:
        self._stretches = {dim: at for dim, at in kept.items() if isinstance(at, Stretches)}
        self._positions = {dim: at for dim, at in kept.items() if isinstance(at, Tensor)}
        self._sizes = sizes
        several = any(at.count > 1 for at in self._stretches.values())
        # convolutions read dense kernels: copied here once, and not again in the backward pass
        self._scattered = len(sizes) > 2 and max(kept) > 0 and not several and not self._positions
        self.is_view = not (several or self._positions or self._scattered)
        self._shape = self._final_shape() if several else None
        self._geometries: dict[Strides, tuple[list[int], list[int], int]] = {}

    def __deepcopy__(self, memo: Any) -> Cut:
        """Return itself: what it keeps never changes."""
        return self

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return what is kept."""
        part = self._view(tensor)
        if self._shape is not None:
            part = part.reshape(self._shape)
        elif self._scattered:
            part = part.clone()
        for dim, positions in self._positions.items():
            part = part.index_select(dim, self._on(dim, positions, tensor.device))
        return part

    def write(self, tensor: Tensor, value: Tensor) -> None:
        """Write into what is kept of a tensor that is cut along one dimension."""
        part = self._view(tensor)
        for dim, positions in self._positions.items():
            part.index_copy_(dim, self._on(dim, positions, tensor.device).long(), value)
            return
        part.copy_(value.view(part.shape))

    def _view(self, tensor: Tensor) -> Tensor:
        if not self._stretches:
            return tensor
        strides = tensor.stride()
        geometry = self._geometries.get(strides)
        if geometry is None:
            geometry = self._geometries[strides] = self._geometry(strides)
        sizes, steps, first = geometry
        if not first:  # where the tensor begins, without asking: this is read in every pass
            return tensor.as_strided(sizes, steps)
        return tensor.as_strided(sizes, steps, tensor.storage_offset() + first)

    def _geometry(self, strides: Strides) -> tuple[list[int], list[int], int]:
        sizes, steps, first = list[int](), list[int](), 0
        for dim, (size, stride) in enumerate(zip(self._sizes, strides, strict=True)):
            at = self._stretches.get(dim, Stretches(0, 1, 0, size))
            first += at.start * stride
            for inner, step in at.dimensions():
                sizes.append(inner)
                steps.append(step * stride)
        return sizes, steps, first

    def _final_shape(self) -> list[int]:
        kept = (self._stretches.get(dim) for dim in range(len(self._sizes)))
        return [
            size if at is None else at.count * at.size
            for size, at in zip(self._sizes, kept, strict=True)
        ]

    def _on(self, dim: int, positions: Tensor, device: torch.device) -> Tensor:
        if positions.device != device:  # the last device on which it was read is remembered
            positions = self._positions[dim] = positions.to(device)
        return positions
