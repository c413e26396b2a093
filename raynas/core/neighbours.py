"""All architectures one change away, made one at a time: a deep space has thousands of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace


def neighbours(space: ArchSpace, arch: Arch, rng: np.random.Generator) -> Iterator[Arch]:
    """Return every architecture that differs in one decision, in random order, each once.

    What a change newly opens is drawn when its turn comes; a subset exchanges one option, or adds
    or drops one if it may have any number of them.

    Args:
        space: holds ``arch``.
        arch: differs from all of them.
        rng: says the order at once, and draws later.

    Raises:
        InvalidArch: the space does not hold ``arch``.
    """
    decisions = list(space.reached(arch).values())
    counts = np.array([d.changes(arch[d.label]) for d in decisions], dtype=np.int64)
    ends = np.cumsum(counts)
    order = rng.permutation(int(counts.sum()))[::-1]

    def changed() -> Iterator[Arch]:
        for number in order:
            at = int(np.searchsorted(ends, number, side="right"))
            label = decisions[at].label
            change = int(number - ends[at] + counts[at])
            value = decisions[at].changed(arch[label], change)
            yield space.sample(rng, arch | {label: value})

    return changed()
