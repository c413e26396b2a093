"""The most probable architectures of a relaxed space."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.nn.logits import Logits, Probabilities


def likeliest(
    space: ArchSpace,
    derived: Mapping[str, Value],
    p: Probabilities,
    specs: Mapping[str, Logits],
    count: int,
) -> list[dict[str, Value]]:
    """Return architectures in the order of their probability, the derived one first.

    The search goes from the derived architecture outwards, always to the most probable that
    differs in one decision from one already taken; what a changed decision opens takes its most
    probable options.

    Args:
        space: of the architectures.
        derived: where to begin.
        p: by label, shape (options,).
        specs: the options of every label.
        count: how many.
    """
    first = Arch(derived)
    heap = [(-math.inf, 0, first)]
    seen, found = {first}, list[dict[str, Value]]()
    while heap and count > 0:
        _, _, arch = heapq.heappop(heap)
        found.append(dict(arch))
        if len(found) == count:
            break
        for other in _neighbours(space, arch, p, specs):
            if other not in seen:
                seen.add(other)
                heapq.heappush(heap, (-log_probability(other, p, specs), len(seen), other))
    return found


def log_probability(arch: Arch, p: Probabilities, specs: Mapping[str, Logits]) -> float:
    """Return the sum of the logarithms of the picked options' probabilities."""
    picked = (p[label][specs[label].options.index(arch[label])] for label in arch if label in p)
    return sum(math.log(max(float(one), 1e-300)) for one in picked)


def _neighbours(
    space: ArchSpace, arch: Arch, p: Probabilities, specs: Mapping[str, Logits]
) -> Iterator[Arch]:
    for label, decision in space.reached(arch).items():
        for value in decision.values():
            if value != arch[label]:
                yield _completed(space, {**arch, label: value}, p, specs)


def _completed(
    space: ArchSpace, taken: Mapping[str, Value], p: Probabilities, specs: Mapping[str, Logits]
) -> Arch:
    """Return the architecture of the given decisions, new ones at their most probable option."""
    found: dict[str, Value] = {}
    pending = list(space.choices)
    while pending:
        decision = pending.pop(0)
        label = decision.label
        if label not in found:
            value = taken.get(label)
            if value is None:
                weights = p.get(label)
                options = specs[label].options if label in specs else ()
                ranked = sorted(
                    decision.values(),
                    key=lambda v: -float(weights[options.index(v)]) if weights is not None else 0.0,
                )
                value = ranked[0]
            found[label] = value
        pending = [d for opened in decision.opened(found[label]) for d in opened.choices] + pending
    return Arch(found)
