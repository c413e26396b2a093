"""Whole numbers of modules that stand for channels: where each of them is used while a model runs.

While a model is traced its modules' whole numbers are replaced by numbers that know where they come
from, so that a shape that is built of them tells which attribute has to follow which channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

from torch import nn

LONGEST = 4  # tuples of more numbers are no sizes
CONFIGURATIONS = ("config", "cfg", "args")  # attributes that hold numbers of a whole model


class Origin(NamedTuple):
    """Where a number stands.

    Attributes:
        module: its path in the model.
        attribute: its name there.
        at: its place where the attribute is a tuple, its name there where it is a configuration.
    """

    module: str
    attribute: str
    at: int | str | None = None


Monomials = dict[tuple[Origin, ...], int]  # a sum of products of attributes, times these


class TracedInt(int):
    """A whole number that knows which sums and products of attributes it is."""

    monomials: Monomials

    @classmethod
    def of(cls, monomials: Monomials, value: int) -> Self:
        """Return a number that was computed so."""
        made = cls(value)
        made.monomials = monomials
        return made

    def __mul__(self, other: Any) -> Any:
        """Multiply."""
        value = int.__mul__(self, other)
        if type(value) is not int:
            return value
        product: Monomials = {}
        for a, x in self.monomials.items():
            for b, y in monomials_of(other).items():
                key = tuple(sorted((*a, *b), key=str))
                product[key] = product.get(key, 0) + x * y
        return TracedInt.of(product, value)

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Any:
        """Add."""
        return self._sum(int.__add__(self, other), other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        """Subtract."""
        return self._sum(int.__sub__(self, other), other, -1)

    def _sum(self, value: Any, other: Any, sign: int) -> Any:
        if type(value) is not int:
            return value
        total = dict(self.monomials)
        for key, number in monomials_of(other).items():
            total[key] = total.get(key, 0) + sign * number
        return TracedInt.of(total, value)

    def __deepcopy__(self, memo: Any) -> int:
        """Return the plain number."""
        return int(self)

    def __reduce__(self) -> Any:
        """Pickle as the plain number."""
        return int, (int(self),)


def monomials_of(value: int) -> Monomials:
    """Return what a number was computed from; itself, where that is not known."""
    return value.monomials if isinstance(value, TracedInt) else {(): int(value)}


@contextmanager
def traced_counts(model: nn.Module) -> Iterator[None]:
    """Let the whole numbers of all modules know where they come from."""
    before: list[tuple[dict[str, Any], str, Any]] = []
    for path, module in model.named_modules():
        holder = vars(module)
        for name, value in list(holder.items()):
            traced = _traced(value, path, name)
            if traced is not None and not name.startswith("_") and name != "training":
                before.append((holder, name, value))
                holder[name] = traced
    try:
        yield
    finally:
        for holder, name, value in before:
            holder[name] = value


def _attribute(value: int, origin: Origin) -> TracedInt:
    return TracedInt.of({(origin,): 1}, value)


def _traced(value: Any, path: str, name: str) -> Any:
    if name in CONFIGURATIONS and hasattr(value, "__dict__") and not isinstance(value, type):
        return changed(
            value,
            {
                key: _attribute(number, Origin(path, name, key))
                for key, number in vars(value).items()
                if type(number) is int and not key.startswith("_")
            },
        )
    if type(value) is int:
        return _attribute(value, Origin(path, name))
    if type(value) not in (tuple, list) or not 0 < len(value) <= LONGEST:
        return None
    if all(type(entry) is int for entry in value):
        places = (_attribute(v, Origin(path, name, at)) for at, v in enumerate(value))
        return type(value)(places)
    return None


def changed(configuration: Any, numbers: Mapping[str, Any]) -> Any:
    """Return a shallow copy of a configuration with other numbers."""
    other = copy.copy(configuration)
    vars(other).update(numbers)
    return other
