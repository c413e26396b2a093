"""Decoded images that the processes of one tree share, so that each is decoded once."""

from __future__ import annotations

import mmap
from math import prod
from typing import Any

import torch
from torch import Tensor


class SharedImages:
    """A cache of images of one shape, filled by whichever process decodes one first.

    Its memory is anonymous and shared with processes forked later, such as those that read ahead;
    none of it is taken before it is written. A pickled copy begins empty.

    Args:
        count: of images.
        shape: of each.
    """

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self.count, self.shape = count, shape
        self._allocate()

    def __getitem__(self, index: int) -> Tensor | None:
        """Return an image that was put here, or None."""
        return self._pixels[index].clone() if self._there[index] else None

    def put(self, index: int, image: Tensor) -> None:
        """Keep an image, uint8."""
        self._pixels[index] = image
        self._there[index] = 1  # after it: another process may look in between

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _allocate(self) -> None:
        size = self.count * prod(self.shape)
        memory = torch.frombuffer(mmap.mmap(-1, size + self.count), dtype=torch.uint8)
        self._pixels = memory[:size].view(self.count, *self.shape)
        self._there = memory[size:]
