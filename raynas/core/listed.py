"""A sampler that proposes what it was given, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from raynas.core.arch import Arch
from raynas.core.errors import Exhausted
from raynas.core.trial import Trial

FOUND = 10  # most probable architectures that a search by gradients scores


class Listed:
    """Proposes each of the given architectures once.

    Args:
        archs: in the order in which they are proposed.
    """

    startup: int | None = None

    def __init__(self, archs: Iterable[Arch]) -> None:
        self._left = deque(archs)

    def ask(self) -> Arch:
        """Return the next; raises Exhausted after the last."""
        if not self._left:
            raise Exhausted("all given architectures were proposed")
        return self._left.popleft()

    def tell(self, trial: Trial) -> None:
        """Learn nothing: the order is given."""
