"""Bounds on metrics, such as no more than so many multiply-accumulates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from raynas.core.errors import nearest

_NAME = r"[^<>=\s](?:[^<>=]*[^<>=\s])?"  # such as val/lat-ms
_NUMBER = r"[^<>=\s]+"
_BOUND = re.compile(rf"\s*({_NAME})\s*(<=?|>=?)\s*({_NUMBER})\s*")
_RANGE = re.compile(rf"\s*({_NUMBER})\s*<=?\s*({_NAME})\s*<=?\s*({_NUMBER})\s*")
SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}
EXPECTED = (
    "METRIC<NUMBER, METRIC>NUMBER or NUMBER<METRIC<NUMBER (with or without =), a NUMBER such as "
    "60e6 or 60M"
)


@dataclass(frozen=True)
class Constraint:
    """A metric and the range that it must lie in, its ends included.

    >>> macs = Constraint("macs", high=60e6)
    >>> macs.allows(60e6), macs.allows(61e6), str(macs)
    (True, False, 'macs <= 6e+07')

    Attributes:
        metric: name.
        low: smallest value allowed; None if there is none.
        high: largest value allowed; None if there is none.

    Raises:
        ValueError: no bound, one that is no number, or a low one above the high one.
    """

    metric: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if bound is not None and not (number and math.isfinite(bound)):
                raise ValueError(
                    f"constraint on {self.metric!r}: expected a finite number or None, got "
                    f"{bound!r}"
                )
        if self.low is None and self.high is None:
            raise ValueError(f"constraint on {self.metric!r}: expected a bound, got none")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(
                f"constraint on {self.metric!r}: no value is at least {self.low:g} and at most "
                f"{self.high:g}"
            )

    def allows(self, value: float) -> bool:
        """Return whether a value of the metric lies in the range; NaN does not."""
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return above and below and not math.isnan(value)

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Return whether a row of metrics fulfils it.

        Raises:
            ValueError: the metric is not among them; the message names the nearest that is.
        """
        if self.metric not in metrics:
            hint = nearest(self.metric, metrics)
            raise ValueError(f"constraint: there is no metric {self.metric!r}; {hint}")
        return self.allows(metrics[self.metric])

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.metric} <= {self.high:g}"
        if self.high is None:
            return f"{self.metric} >= {self.low:g}"
        return f"{self.low:g} <= {self.metric} <= {self.high:g}"


Constraints: TypeAlias = Mapping[str, Any] | Iterable[str | Constraint] | str | Constraint


def parse_constraint(text: str) -> Constraint:
    """Read a bound or a range; ``<`` means the same as ``<=``.

    >>> parse_constraint("macs<60e6")
    Constraint(metric='macs', low=None, high=60000000.0)
    >>> parse_constraint("1e5 <= params <= 2e6")
    Constraint(metric='params', low=100000.0, high=2000000.0)
    >>> str(parse_constraint("100k<params<2.5M"))
    '100000 <= params <= 2.5e+06'

    A number may end in k, M or G. A metric's name may hold anything but ``<``, ``>`` and ``=``.

    >>> parse_constraint("val/lat-ms < 5").metric
    'val/lat-ms'

    Raises:
        ValueError: it is neither.
    """
    if (match := _BOUND.fullmatch(text)) and not _is_number(match[1]):
        metric, sign, number = match.groups()
        bound = _number(number, text)
        return Constraint(metric, **{"high" if sign[0] == "<" else "low": bound})
    if match := _RANGE.fullmatch(text):
        low, metric, high = match.groups()
        return Constraint(metric, _number(low, text), _number(high, text))
    raise ValueError(f"constraint {text!r}: expected {EXPECTED}")


def as_constraints(given: Constraints | None) -> tuple[Constraint, ...]:
    """Return constraints in any form, those on one metric as one.

    >>> as_constraints({"macs": (None, 300e6)})
    (Constraint(metric='macs', low=None, high=300000000.0),)
    >>> [str(one) for one in as_constraints(["macs<3e8", "macs>1e8", "params<5e6"])]
    ['1e+08 <= macs <= 3e+08', 'params <= 5e+06']

    Args:
        given: a dict from metric to (low, high), or texts and constraints, or one of them.

    Raises:
        ValueError: one is malformed, or two contradict each other.
    """
    found: dict[str, Constraint] = {}
    for one in _listed(given):
        other = found.get(one.metric, one)
        lows = [c.low for c in (one, other) if c.low is not None]
        highs = [c.high for c in (one, other) if c.high is not None]
        found[one.metric] = Constraint(
            one.metric, max(lows) if lows else None, min(highs) if highs else None
        )
    return tuple(found.values())


def _listed(given: Constraints | None) -> list[Constraint]:
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [_of_pair(metric, bounds) for metric, bounds in given.items()]
    if isinstance(given, str | Constraint):
        given = [given]
    return [one if isinstance(one, Constraint) else parse_constraint(one) for one in given]


def _of_pair(metric: str, bounds: Any) -> Constraint:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise ValueError(f"constraint on {metric!r}: expected (low, high), got {bounds!r}")
    return Constraint(metric, *bounds)


def _is_number(text: str) -> bool:
    try:
        float(text.removesuffix(text[-1]) if text[-1] in SUFFIXES else text)
    except ValueError:
        return False
    return True


def _number(text: str, where: str) -> float:
    factor = SUFFIXES.get(text[-1:])
    try:
        return float(text) if factor is None else float(text[:-1]) * factor
    except ValueError:
        raise ValueError(
            f"constraint {where!r}: {text!r} is no number; expected {EXPECTED}"
        ) from None
