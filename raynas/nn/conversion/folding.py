"""Labels as counts of what the offered axes keep."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from raynas.nn.conversion.axes import Axes, Count, Uneven
from raynas.nn.conversion.plan import CacheTerm, ElasticAxis
from raynas.nn.conversion.trace import Trace


class Folding:
    """Turns labels into counts of what offered axes keep.

    Args:
        axes: that were found.
        offered: those of them that are elastic, by number.
    """

    def __init__(self, axes: Axes, offered: Mapping[int, ElasticAxis]) -> None:
        self._axes, self._offered = axes, offered

    def folded(self, count: Count) -> Count:
        """Return a count in which axes that are not offered are constant."""
        constant = count.constant
        for axis, width in count.per_unit.items():
            if axis not in self._offered:
                constant += width * self._axes.axes[axis].units
        per_unit = {a: w for a, w in count.per_unit.items() if a in self._offered}
        return Count(constant, per_unit)

    def _count(self, counted: tuple[Tensor, Tensor]) -> Count:
        return self.folded(self._axes.count(*counted))

    def cache(self, trace: Trace) -> tuple[CacheTerm, ...]:
        """Return what a token leaves in caches as a sum; nothing where that cannot be told."""
        try:
            return tuple(CacheTerm(scope, self._count(kept)) for scope, kept in trace.cached)
        except Uneven:
            return ()
