"""An elastic space without a model, of Once-for-All's kind, and scores of its architectures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from raynas.core.arch import Arch, Atom
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subspace

DEPTHS, KERNELS, EXPANDS = (2, 3, 4), (3, 5, 7), (3, 4, 6)


def elastic_space(stages: int = 3, kernels: tuple[int, ...] = KERNELS) -> ArchSpace:
    """Return resolution, and kernel and expansion of every block that the depths reach."""
    choices = [Choice("resolution", (16, 24, 32))]
    for s in range(stages):
        blocks = [
            (Choice(f"s{s}.b{b}.kernel", kernels), Choice(f"s{s}.b{b}.expand", EXPANDS))
            for b in range(max(DEPTHS))
        ]
        opens: dict[Atom, Subspace] = {
            d: ArchSpace(tuple(c for block in blocks[:d] for c in block)) for d in DEPTHS
        }
        choices.append(Choice(f"s{s}.depth", DEPTHS, opens))
    return ArchSpace(tuple(choices))


ELASTIC = elastic_space()


def effects(seed: int) -> Callable[[Arch], float]:
    """Return a surface of a normal effect for every value, and a smaller one for pairs of them."""
    rng = np.random.default_rng([11, seed])
    decisions = ELASTIC.decisions
    one = {label: rng.standard_normal(len(d.options)) for label, d in decisions.items()}
    pairs = list(zip(ELASTIC.labels, ELASTIC.labels[1:], strict=False))
    two = {pair: 0.5 * rng.standard_normal((3, 3)) for pair in pairs}

    def surface(arch: Arch) -> float:
        at = {label: decisions[label].index(value) for label, value in arch.items()}
        single = sum(one[label][number] for label, number in at.items())
        both = sum(m[at[a], at[b]] for (a, b), m in two.items() if a in at and b in at)
        return float(single + both)

    return surface
