"""What makes architectures alike to a model of scores."""

from __future__ import annotations

from dataclasses import dataclass

from raynas.core.candidates import is_deep
from raynas.core.canonical_rows import CanonicalRows
from raynas.core.codes import Codes, Rows
from raynas.core.option_counts import OptionCounts
from raynas.core.similarity import EqualDecisions


@dataclass(frozen=True)
class Likeness:
    """Equal decisions, and what else there is.

    Attributes:
        equal: the share of equal decisions.
        counts: the share of options in common, wherever they stand; None if it does not count.
        canonical: the architectures that are compared in the place of those that compute the same;
            None if each stands for itself.
    """

    equal: EqualDecisions
    counts: OptionCounts | None = None
    canonical: CanonicalRows | None = None

    def compared(self, rows: Rows) -> Rows:
        """Return the rows that are compared in the place of these."""
        return rows if self.canonical is None else self.canonical.of(rows)

    @classmethod
    def of(cls, codes: Codes) -> Likeness:
        """Return all that a space has, in a deep one equal decisions alone."""
        equal = EqualDecisions(codes, ordered=True)
        if is_deep(codes):
            return cls(equal)
        return cls(equal, OptionCounts(codes) or None, CanonicalRows(codes) or None)
