"""Values that an architecture decides, and arithmetic with them.

``Conv2d(width, width * expand, 3)`` takes such values as constructor arguments (``nn/elastic.py``).
"""

from __future__ import annotations

import copy
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from raynas.core.arch import Atom, Value
from raynas.core.checks import whole
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidSpace

MAX_COMBINATIONS = 100_000
NO_VALUES = "this layer takes no values: use raynas.nn's own layers, or raynas.nn.Parametrized"


class Expression:
    """A value that follows from decisions: a value choice, or arithmetic with some.

    Supports ``+ - * / // % **``, negation, comparisons (but for ``==``, use ``equals``), and the
    functions of this module. Between two expressions ``==`` means identity.

    >>> width = ValueChoice([16, 32], label="width")
    >>> expand = ValueChoice([1, 4], label="expand")
    >>> hidden = width * expand
    >>> hidden.options(), hidden.evaluate({"width": 32, "expand": 4})
    ((16, 32, 64, 128), 128)
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def evaluate(self, arch: Mapping[str, Value]) -> Any:
        """Return the value under an architecture that decides all its leaves."""
        return self.function(*(evaluate(argument, arch) for argument in self.arguments))

    def leaves(self) -> tuple[Leaf, ...]:
        """Return the choices that it depends on, each once."""
        return leaves_of(self.arguments)

    def options(self) -> tuple[Any, ...]:
        """Return all values it can take, sorted if they can be.

        Raises:
            InvalidSpace: the choices below it have more than 100,000 combinations.
        """
        values = {self.evaluate(arch) for arch in assignments(self.leaves())}
        try:
            return tuple(sorted(values))
        except TypeError:
            return tuple(values)

    def name(self, path: str) -> None:
        """Label the leaves that have no label."""
        unnamed = [leaf for leaf in self.leaves() if leaf.label is None]
        for at, leaf in enumerate(unnamed):
            leaf.label = path if len(unnamed) == 1 else f"{path}.{at}"

    def equals(self, other: Any) -> Expression:
        """Return whether both are equal, as a value."""
        return Expression(operator.eq, self, other)

    def __add__(self, other: Any) -> Expression:
        return Expression(operator.add, self, other)

    def __radd__(self, other: Any) -> Expression:
        return Expression(operator.add, other, self)

    def __sub__(self, other: Any) -> Expression:
        return Expression(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Expression:
        return Expression(operator.sub, other, self)

    def __mul__(self, other: Any) -> Expression:
        return Expression(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Expression:
        return Expression(operator.mul, other, self)

    def __truediv__(self, other: Any) -> Expression:
        return Expression(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return Expression(operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> Expression:
        return Expression(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Expression:
        return Expression(operator.floordiv, other, self)

    def __mod__(self, other: Any) -> Expression:
        return Expression(operator.mod, self, other)

    def __rmod__(self, other: Any) -> Expression:
        return Expression(operator.mod, other, self)

    def __pow__(self, other: Any) -> Expression:
        return Expression(operator.pow, self, other)

    def __rpow__(self, other: Any) -> Expression:
        return Expression(operator.pow, other, self)

    def __neg__(self) -> Expression:
        return Expression(operator.neg, self)

    def __abs__(self) -> Expression:
        return Expression(operator.abs, self)

    def __round__(self, digits: int | None = None) -> Expression:
        return Expression(round, self, digits)

    def __lt__(self, other: Any) -> Expression:
        return Expression(operator.lt, self, other)

    def __le__(self, other: Any) -> Expression:
        return Expression(operator.le, self, other)

    def __gt__(self, other: Any) -> Expression:
        return Expression(operator.gt, self, other)

    def __ge__(self, other: Any) -> Expression:
        return Expression(operator.ge, self, other)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str | int | float):
            raise self._undecided("use value.equals(other)")
        return self is other

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise self._undecided("use raynas.nn.where(condition, a, b), or a layer that takes values")

    def __int__(self) -> int:
        raise self._undecided("use to_int(value)")

    def __float__(self) -> float:
        raise self._undecided("use to_float(value)")

    def __index__(self) -> int:
        raise self._undecided(NO_VALUES)

    def __iter__(self) -> Iterator[Any]:
        raise self._undecided(NO_VALUES)

    def __len__(self) -> int:
        raise self._undecided(NO_VALUES)

    def __contains__(self, other: object) -> bool:
        raise self._undecided(NO_VALUES)

    def _undecided(self, hint: str) -> TypeError:
        return TypeError(f"{self!r} is not decided while the model is written; {hint}")

    def __deepcopy__(self, memo: dict[int, Any]) -> Expression:
        return self  # a copied layer follows the same decisions

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", "f")
        return f"{name}({', '.join(map(repr, self.arguments))})"


class Leaf(Expression):
    """A value that is a decision itself.

    Without a label it takes one from the first model that names it, and keeps that in any other.
    """

    label: str | None

    def decision(self) -> Decision:
        """Return the decision."""
        raise TypeError(f"{type(self).__name__} must define decision()")

    @property
    def _where(self) -> str:
        kind = type(self).__name__
        return kind if self.label is None else f"{kind} {self.label!r}"

    def _listed(self, options: Any) -> tuple[Atom, ...]:
        if isinstance(options, str | Expression) or not isinstance(options, Iterable):
            raise InvalidSpace(f"{self._where}: expected a list of options, got {options!r}")
        return tuple(options)

    def _check(self) -> None:
        """Raise what its decision finds wrong, under the name that the user knows."""
        try:
            self.decision()
        except InvalidSpace as error:
            raise InvalidSpace(str(error).replace(repr(self.place), self._where, 1)) from None

    @property
    def place(self) -> str:
        """The label, or until there is one, a name of its own."""
        return f"value at {id(self):x}" if self.label is None else self.label

    def evaluate(self, arch: Mapping[str, Value]) -> Any:
        """Return the decided value."""
        return arch[self.place]

    def leaves(self) -> tuple[Leaf, ...]:
        """Return itself."""
        return (self,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r})"


class ValueChoice(Leaf):
    """One of several numbers, strings or booleans.

    Args:
        options: at least one, all different.
        label: name of the decision; None takes the path of the first layer that uses it, in the
            first model that names it.

    Raises:
        InvalidSpace: no list of options, none in it, equal ones, or one that JSON cannot hold.
    """

    def __init__(self, options: Iterable[Atom], label: str | None = None) -> None:
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
        for name, number in {"low": low, "high": high, "step": width}.items():
            whole(self._where, name, number)
        if low > high or width < (2 if log else 1) or (log and low < 1):
            raise InvalidSpace(
                f"{self._where}: expected low <= high and a positive step (with log: low >= 1 "
                f"and a step of at least 2), got low {low}, high {high}, step {width}"
            )
        super().__init__(_powers(low, high, width) if log else range(low, high + 1, width), label)


class SubsetChoice(Leaf):
    """Several of the options, as a tuple in their order.

    Args:
        options: at least one, all different.
        n_chosen: how many; None takes any number, none included.
        label: name of the decision, as for ``ValueChoice``.

    Raises:
        InvalidSpace: as ``ValueChoice``, or no whole number from 1 to the number of options.
    """

    def __init__(
        self, options: Iterable[Atom], n_chosen: int | None = None, label: str | None = None
    ) -> None:
        self.label = label
        self.values = self._listed(options)
        if n_chosen is not None:
            whole(self._where, "n_chosen", n_chosen, 1, len(self.values), "or None for any number")
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


def evaluate(thing: Any, arch: Mapping[str, Value]) -> Any:
    """Return ``thing`` with every expression in nested tuples, lists and dicts evaluated."""
    if isinstance(thing, Expression):
        return thing.evaluate(arch)
    if isinstance(thing, MutableMapping):
        made = copy.copy(thing)  # keeps the kind, such as an OrderedDict or a defaultdict
        made.update({key: evaluate(one, arch) for key, one in thing.items()})
        return made
    if isinstance(thing, Mapping):
        return {key: evaluate(one, arch) for key, one in thing.items()}
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):  # a named tuple
        return type(thing)(*(evaluate(one, arch) for one in thing))
    if isinstance(thing, tuple | list):
        return type(thing)(evaluate(one, arch) for one in thing)
    return thing


def leaves_of(thing: Any) -> tuple[Leaf, ...]:
    """Return the leaves of all expressions in nested tuples, lists and dicts, each once."""
    if isinstance(thing, Expression):
        return thing.leaves()
    inner: Iterable[Any] = ()
    if isinstance(thing, Mapping):
        inner = thing.values()
    elif isinstance(thing, tuple | list):
        inner = thing
    return tuple(dict.fromkeys(leaf for one in inner for leaf in leaves_of(one)))


def assignments(leaves: Sequence[Leaf]) -> Iterator[dict[str, Value]]:
    """Yield every combination of values of the leaves.

    Raises:
        InvalidSpace: there are more than 100,000.
    """
    count = math.prod(leaf.decision().count() for leaf in leaves)
    if count > MAX_COMBINATIONS:
        raise InvalidSpace(
            f"{list(leaves)} have {count} combinations, more than {MAX_COMBINATIONS}: too many for "
            "one expression"
        )
    decisions = [leaf.decision() for leaf in leaves]
    for values in itertools.product(*(tuple(d.values()) for d in decisions)):
        yield {d.label: value for d, value in zip(decisions, values, strict=True)}


def where(condition: Expression, yes: Any, no: Any) -> Expression:
    """Return ``yes`` where the condition holds, else ``no``."""
    return Expression(_where, condition, yes, no)


def _where(condition: bool, yes: Any, no: Any) -> Any:
    return yes if condition else no


def maximum(*values: Any) -> Expression:
    """Return the largest of two or more values and numbers."""
    return Expression(max, *_several("maximum", values))


def minimum(*values: Any) -> Expression:
    """Return the smallest of two or more values and numbers."""
    return Expression(min, *_several("minimum", values))


def _several(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(values) < 2:
        raise InvalidSpace(f"{name} compares two or more values, got {len(values)}: {values}")
    return values


def to_int(value: Expression) -> Expression:
    """Return the value cut to a whole number."""
    return Expression(int, value)


def to_float(value: Expression) -> Expression:
    """Return the value as a float."""
    return Expression(float, value)


def count(value: Expression) -> Expression:
    """Return how many options a subset choice picks."""
    return Expression(len, value)
