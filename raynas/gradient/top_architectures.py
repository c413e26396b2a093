"""The most probable architectures of a relaxed space."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raynas.core.arch import Arch, Atom, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision
from raynas.nn.logits import Logits, Probabilities


def top_k(
    space: ArchSpace,
    derived: Mapping[str, Value],
    p: Probabilities,
    specs: Mapping[str, Logits],
    count: int,
) -> list[dict[str, Value]]:
    """Return architectures in the order of their probability, the derived one first.

    The search goes from the derived architecture outwards, always to the most probable that
    differs in one decision from one already taken; what a changed decision opens takes its most
    probable options. None that has lost for certain (SGAS decides for good) is returned.

    Args:
        space: of the architectures.
        derived: where to begin.
        p: by label, shape (options,).
        specs: the options of every label.
        count: how many.
    """
    first = Arch(derived)
    heap = [(-math.inf, 0, first)]
    seen, taken = {first}, list[dict[str, Value]]()
    while heap and count > 0:
        _, _, arch = heapq.heappop(heap)
        taken.append(dict(arch))
        if len(taken) == count:
            break
        for other in neighbours(space, arch, p, specs):
            if other not in seen:
                seen.add(other)
                heapq.heappush(heap, (-log_probability(other, p, specs), len(seen), other))
    return taken


def _possible(arch: Arch, p: Probabilities, specs: Mapping[str, Logits]) -> bool:
    return all(chance > 0 for chance in _picked(arch, p, specs))


def _picked(arch: Arch, p: Probabilities, specs: Mapping[str, Logits]) -> Iterator[float]:
    """Yield the probabilities of what an architecture picks, of a set those of its members."""
    for label in arch:
        if label in p:
            yield _probability(p[label], specs[label].options, arch[label])


def _probability(weights: NDArray[np.float64], options: Sequence[Atom], value: Value) -> float:
    picked = value if isinstance(value, tuple) and value not in options else (value,)
    return math.prod(float(weights[options.index(option)]) for option in picked)


def log_probability(arch: Arch, p: Probabilities, specs: Mapping[str, Logits]) -> float:
    """Return the sum of the logarithms of the picked options' probabilities."""
    return sum(math.log(max(chance, 1e-300)) for chance in _picked(arch, p, specs))


def neighbours(
    space: ArchSpace, arch: Arch, p: Probabilities, specs: Mapping[str, Logits]
) -> Iterator[Arch]:
    """Yield all that differ in one decision and have not lost for certain."""
    for label, decision in space.reached(arch).items():
        for value in decision.values():
            if value != arch[label]:
                other = _completed(space, {**arch, label: value}, p, specs)
                if _possible(other, p, specs):
                    yield other


def _completed(
    space: ArchSpace, taken: Mapping[str, Value], p: Probabilities, specs: Mapping[str, Logits]
) -> Arch:
    """Return the architecture of the given decisions, new ones at their most probable option."""

    def pick(decision: Decision) -> Value:
        if decision.label in taken:
            return taken[decision.label]
        if decision.label not in p:
            return next(iter(decision.values()))
        weights, options = p[decision.label], specs[decision.label].options
        return max(decision.values(), key=lambda value: _probability(weights, options, value))

    return space.decided(pick)
