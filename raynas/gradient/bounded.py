"""The most probable architectures of a relaxed space that keep bounds on their costs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.gradient.top_architectures import log_probability, neighbours
from raynas.nn.logits import Logits, Probabilities

LOOKED = 5_000  # architectures by probability alone, and as many again near the bounds


def top_k_within(
    space: ArchSpace,
    derived: Mapping[str, Value],
    p: Probabilities,
    specs: Mapping[str, Logits],
    count: int,
    *,
    looked: int = LOOKED,
) -> list[Arch]:
    """Return the most probable architectures within the space's bounds, in that order.

    The derived one comes first if it is among them.

    Architectures are looked at in the order of their probability, from the derived one outwards,
    until enough keep the bounds. Where these lie too far off for that, the derived one is repaired:
    changed, decision by decision, where the excess falls most for the probability that is lost.
    The search goes on from there, by the logarithm of the probability less the excess at the price
    that the repair paid for it (Everett, 1963: near a bound, the best lie near the Lagrangian's).

    Args:
        space: of the architectures, with a ``violation``.
        derived: where to begin.
        p: by label, shape (options,).
        specs: the options of every label.
        count: how many.
        looked: architectures to look at in each of the two searches, at most.

    Returns:
        At most ``count``; none if none was found.
    """
    search = _Search(space, p, specs, looked)
    first = Arch(derived)
    if not search.outwards(first, 0.0, count):
        search.outwards(*search.repaired(first))
    inside = search.inside
    return sorted(inside, key=lambda arch: (arch != first, -inside[arch], arch.key))[:count]


class _Search:
    """Looks at architectures; those within the bounds are kept with their log-probabilities."""

    def __init__(
        self, space: ArchSpace, p: Probabilities, specs: Mapping[str, Logits], looked: int
    ) -> None:
        self.inside: dict[Arch, float] = {}
        self._space, self._p, self._specs, self._most = space, p, specs, looked
        self._looked_at: dict[Arch, tuple[float, float]] = {}

    def outwards(self, start: Arch, price: float, enough: int | None = None) -> bool:
        """Look at the best, then at its neighbours, and so on; return whether nothing is left to.

        Args:
            start: the first.
            price: of the excess, in log-probability.
            enough: how many within the bounds to take; None ends at the most to look at.
        """
        heap, seen, taken = [(0.0, 0, start)], {start}, 0
        while heap:
            _, _, arch = heapq.heappop(heap)
            taken += self._look(arch)[1] == 0.0
            if taken == enough:
                return True
            for other in neighbours(self._space, arch, self._p, self._specs):
                if other not in seen:
                    if len(seen) == self._most:
                        return False
                    seen.add(other)
                    log_p, excess = self._look(other)
                    heapq.heappush(heap, (price * excess - log_p, len(seen), other))
        return True

    def repaired(self, arch: Arch) -> tuple[Arch, float]:
        """Return an architecture within the bounds, or as near as single changes lead to one.

        Also return the log-probability that the last change cost per excess that it saved.
        """
        price, (log_p, excess) = 0.0, self._look(arch)
        while excess > 0.0:
            ways: list[tuple[float, float, int, Arch]] = []
            for other in neighbours(self._space, arch, self._p, self._specs):
                then_log_p, then_excess = self._look(other)
                if then_excess < excess:
                    paid = max(log_p - then_log_p, 0.0) / (excess - then_excess)
                    ways.append((paid, then_excess, len(ways), other))
            if not ways:
                break
            price, _, _, arch = min(ways)
            log_p, excess = self._look(arch)
        return arch, price

    def _look(self, arch: Arch) -> tuple[float, float]:
        """Return log-probability and excess."""
        if arch not in self._looked_at:
            assert self._space.violation is not None
            log_p = log_probability(arch, self._p, self._specs)
            excess = self._space.violation(arch)
            self._looked_at[arch] = log_p, excess
            if excess == 0.0:
                self.inside[arch] = log_p
        return self._looked_at[arch]
