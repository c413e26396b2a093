"""Proposing without repetition: what was seen, and how to find what was not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import Exhausted

TRIES = 100
LISTABLE = 100_000  # spaces up to this size are listed once random tries keep failing


class Visited:
    """The architectures that a sampler has proposed or been told of."""

    def __init__(self, space: ArchSpace, rng: np.random.Generator) -> None:
        self._space = space
        self._rng = rng
        self._size = space.size()
        self._keys: set[str] = set()
        self._left: list[Arch] | None = None

    def add(self, arch: Arch) -> None:
        """Count ``arch`` as seen."""
        self._keys.add(arch.to_json())

    def __contains__(self, arch: Arch) -> bool:
        return arch.to_json() in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def propose(self, draw: Callable[[], Arch]) -> Arch:
        """Return an unseen architecture, from ``draw`` if it finds one, else any; count it as seen.

        Raises:
            Exhausted: every architecture of the space was seen.
        """
        if len(self._keys) >= self._size:
            raise Exhausted(f"all {self._size} architectures of the space were proposed")
        for source in (draw, lambda: self._space.sample(self._rng)):
            for _ in range(TRIES if self._left is None else 1):
                if (arch := source()) not in self:
                    self.add(arch)
                    return arch
        arch = self._next_left()
        self.add(arch)
        return arch

    def _next_left(self) -> Arch:
        if self._size > LISTABLE:
            while (arch := self._space.sample(self._rng)) in self:
                pass
            return arch
        if self._left is None:
            left = [arch for arch in self._space if arch not in self]
            self._left = [left[i] for i in self._rng.permutation(len(left))]
        while (arch := self._left.pop()) in self:
            pass
        return arch
