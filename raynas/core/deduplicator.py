"""Proposing without repetition: what was seen, and how to find what was not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import Exhausted
from raynas.core.feasible import repaired

TRIES = 100
LISTABLE = 100_000  # spaces up to this size are listed once random tries keep failing


class Deduplicator:
    """The architectures that a sampler has proposed or been told of.

    Isomorphic architectures are one: of each class, one member is proposed. Kept are keys alone,
    since a run may have very many.

    Attributes:
        drawn: whether the last proposal came from the sampler's own draw, mutated further where it
            broke the space's bounds.
    """

    def __init__(self, space: ArchSpace, rng: np.random.Generator) -> None:
        self._space = space
        self._rng = rng
        self._size = space.size()
        self._keys: set[str] = set()
        self._left: Iterator[Arch] | None = None
        self._ended = False
        self.drawn = False

    def add(self, arch: Arch) -> None:
        """Count ``arch`` as seen."""
        self._keys.add(self._space.canonical(arch).key)

    def __contains__(self, arch: Arch) -> bool:
        return self._space.canonical(arch).key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def propose(self, draw: Callable[[], Arch]) -> Arch:
        """Return an unseen architecture, from ``draw`` if it finds one, else any; count it as seen.

        Raises:
            Exhausted: every architecture of the space (within its bounds, if it has some) was
                seen, or one isomorphic to it.
        """
        if self._ended or len(self._keys) >= self._size:
            raise self.exhausted()
        for source in (draw, lambda: self._space.sample(self._rng)):
            self.drawn = source is draw
            for _ in range(TRIES if self._left is None else 1):
                arch = repaired(self._space, source(), self._rng)
                if arch is not None and arch not in self:
                    self.add(arch)
                    return arch
        return self._next_left()

    def exhausted(self) -> Exhausted:
        """Return the error that says, for good, that nothing is left to propose."""
        self._ended = True
        if len(self._keys) >= self._size:
            return Exhausted(f"all {self._size} architectures of the space were proposed")
        bounds = " within the bounds" if self._space.violation is not None else ""
        return Exhausted(
            f"no architecture{bounds} is left that is not, or is not isomorphic to, one of the "
            f"{len(self)} proposed"
        )

    def _next_left(self) -> Arch:
        if self._left is None:
            small = self._size <= LISTABLE
            self._left = self._shuffled() if small else self._searched()
        for arch in self._left:
            if self.is_open(arch):
                self.add(arch)
                return arch
        raise self.exhausted()

    def is_open(self, arch: Arch) -> bool:
        """Return whether an architecture is unseen and within the space's bounds."""
        violation = self._space.violation
        return arch not in self and (violation is None or violation(arch) == 0.0)

    def _shuffled(self) -> Iterator[Arch]:
        left = [arch for arch in self._space if self.is_open(arch)]
        for i in self._rng.permutation(len(left)):
            yield left[i]

    def _searched(self) -> Iterator[Arch]:
        """Yield random architectures, then all in order, as long as that finds new ones."""
        yield from self._patiently(self._space.sample(self._rng) for _ in count())
        if (
            self._space.isomorphism is None and self._space.violation is None
        ):  # one of the first len(self) + 1 is new
            yield from self._space
        else:
            yield from self._patiently(iter(self._space))

    def _patiently(self, source: Iterator[Arch]) -> Iterator[Arch]:
        """Yield from ``source`` until so many in a row were seen as a space may have to be listed.

        A large space of few classes would be walked forever otherwise.
        """
        seen_in_a_row = 0
        for arch in source:
            seen_in_a_row = 0 if self.is_open(arch) else seen_in_a_row + 1
            if seen_in_a_row == LISTABLE:
                return
            yield arch
