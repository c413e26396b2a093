"""Labels as counts of what the offered axes keep, and costs as sums of products of such counts."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from raynas.nn.conversion.axes import Axes, Count, Uneven
from raynas.nn.conversion.plan import ElasticAxis, Term
from raynas.nn.conversion.trace import Trace


class Folding:
    """Turns labels into counts of what offered axes keep.

    Args:
        axes: that were found.
        offered: those of them that are elastic, by number.
        kernels: paths of convolutions whose kernels are elastic.
    """

    def __init__(self, axes: Axes, offered: Mapping[int, ElasticAxis], kernels: set[str]) -> None:
        self._axes, self._offered, self._kernels = axes, offered, kernels

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

    def macs(self, trace: Trace) -> tuple[Term, ...]:
        """Return the multiply-accumulates as a sum; nothing where some cannot be told so."""
        terms = []
        try:
            for product in trace.products:
                path = (product.weight or "").rpartition(".")[0]
                kernel = path if path in self._kernels else None
                counts = (self._count(product.elements), self._count(product.met))
                terms.append(Term(product.scope, counts, product.taps, kernel))
        except Uneven:
            return ()
        return tuple(terms)

    def cache(self, trace: Trace) -> tuple[Term, ...]:
        """Return what a token leaves in caches as a sum; nothing where that cannot be told."""
        try:
            return tuple(Term(scope, (self._count(kept),)) for scope, kept in trace.cached)
        except Uneven:
            return ()
