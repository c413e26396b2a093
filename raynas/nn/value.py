"""Values that are decisions themselves: one of several, a whole number, a subset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raynas.core.checks import whole
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidSpace
from raynas.nn.expression import Expression, Leaf


class ValueChoice(Leaf):
    """One of several numbers, strings or booleans, None, or tuples of these.

    Args:
        options: at least one, all different; NumPy's numbers become Python's, and lists tuples.
        label: name of the decision; None takes the path of the first layer that uses it, in the
            first model that names it.

    Raises:
        InvalidSpace: no list of options, none in it, equal ones, or one that JSON cannot hold.
    """

    def __init__(self, options: Iterable[Any], label: str | None = None) -> None:
        self.label = label
        self.values = self._listed(options)
        self._check()

    def options(self) -> tuple[Any, ...]:
        """Return the options in the order they were given."""
        return self.values

    def decision(self) -> Decision:
        """Return a Choice."""
        return Choice(self.place, self.values)


class IntegerChoice(ValueChoice):
    """A whole number from a range.

    Args:
        low: smallest.
        high: largest that may be reached, itself included.
        label: name of the decision, as for ``ValueChoice``.
        step: between neighbours.
        log: whether neighbours differ by a factor of ``step`` instead.

    Raises:
        InvalidSpace: an empty range, or a step that leads nowhere.
    """

    def __init__(
        self,
        low: int,
        high: int,
        label: str | None = None,
        *,
        step: int | None = None,
        log: bool = False,
    ) -> None:
        self.label = label
        width = step if step is not None else 2 if log else 1
        given = {"low": low, "high": high, "step": width}
        low, high, width = (whole(self._where, name, number) for name, number in given.items())
        if low > high or width < (2 if log else 1) or (log and low < 1):
            raise InvalidSpace(
                f"{self._where}: expected low <= high and a positive step (with log: low >= 1 "
                f"and a step of at least 2), got low {low}, high {high}, step {width}"
            )
        super().__init__(_powers(low, high, width) if log else range(low, high + 1, width), label)


class SubsetChoice(Leaf):
    """Several of the options, as a tuple in their order.

    Args:
        options: as of ``ValueChoice``.
        n_chosen: how many; None takes any number, none included.
        label: name of the decision, as for ``ValueChoice``.

    Raises:
        InvalidSpace: as ``ValueChoice``, or no whole number from 1 to the number of options.
    """

    def __init__(
        self, options: Iterable[Any], n_chosen: int | None = None, label: str | None = None
    ) -> None:
        self.label = label
        self.values = self._listed(options)
        if n_chosen is not None:
            most, hint = len(self.values), "or None for any number"
            n_chosen = whole(self._where, "n_chosen", n_chosen, 1, most, hint)
        self.n_chosen = n_chosen
        self._check()

    def options(self) -> tuple[Any, ...]:
        """Return every set as a tuple."""
        return tuple(self.decision().values())

    def decision(self) -> Decision:
        """Return a Subset."""
        return Subset(self.place, self.values, self.n_chosen)


def _powers(low: int, high: int, factor: int) -> Iterator[int]:
    while low <= high:
        yield low
        low *= factor


def count(value: Expression) -> Expression:
    """Return how many options a subset choice picks."""
    return Expression(len, value)
