"""Few architectures that hold everything of a space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision

MOST = 256


def covering(space: ArchSpace) -> Iterator[Arch]:
    """Yield architectures until each option of each decision was among them, 256 at most.

    >>> space = ArchSpace.of(a=("x", "y", "z"), b=(1, 2))
    >>> [dict(arch) for arch in covering(space)]
    [{'a': 'x', 'b': 1}, {'a': 'y', 'b': 2}, {'a': 'z', 'b': 1}]
    """
    used: Counter[tuple[str, Atom]] = Counter()

    def rarest(decision: Decision) -> Value:
        ranked = sorted(decision.options, key=lambda option: used[decision.label, option])
        if isinstance(decision, Choice):
            used[decision.label, ranked[0]] += 1
            return ranked[0]
        unused = [option for option in ranked if not used[decision.label, option]]
        taken = unused if decision.k is None else ranked[: decision.k]
        used.update((decision.label, option) for option in taken)
        return tuple(option for option in decision.options if option in taken)

    wanted = {(d.label, option) for d in space.decisions.values() for option in d.options}
    for _ in range(MOST):
        yield space.decided(rarest)
        if wanted <= used.keys():
            return
