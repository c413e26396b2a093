"""A sampler that proposes what it was given, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from raynas.core.arch import Arch
from raynas.core.errors import Exhausted
from raynas.core.sampler import Sampler
from raynas.core.trial import Trial

FOUND = 10  # most probable architectures that a search by gradients scores


class FixedListSampler(Sampler):
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


def in_place(
    archs: Iterable[Arch],
    history: Iterable[Trial],
    violation: Callable[[Arch], float] | None = None,
) -> list[Arch]:
    """Return the architectures with those that were asked before in their old places.

    A run that goes on under other bounds lists others, and replays the asks that it recorded.

    Args:
        archs: to be proposed now.
        history: told trials.
        violation: by how much one exceeds the bounds of now; what was infeasible before and is not
            any more is proposed again.
    """
    trials = list(history)
    old = {trial.number: trial.arch for trial in trials}
    over = {
        trial.arch
        for trial in trials
        if trial.status != "infeasible" or (violation is not None and violation(trial.arch) > 0.0)
    }
    new = (arch for arch in archs if arch not in over)
    found: list[Arch] = []
    while old:
        arch = old.pop(len(found), None)
        arch = next(new, None) if arch is None else arch
        if arch is None:  # nothing new is left for a place between old ones
            return [*found, *(old[number] for number in sorted(old))]
        found.append(arch)
    return [*found, *new]
