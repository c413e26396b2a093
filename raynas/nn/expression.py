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
from raynas.core.decision import Decision, listed
from raynas.core.errors import InvalidSpace
from raynas.core.plain_values import plain_value

MAX_COMBINATIONS = 100_000
NO_VALUES = "this layer takes no values: use raynas.nn's own layers, or raynas.nn.Parametrized"


class Expression:
    """A value that follows from decisions: a value choice, or arithmetic with some.

    Supports ``+ - * / // % **``, negation, comparisons (but for ``==``, use ``equals``), and the
    functions of this module. Between two expressions ``==`` means identity.

    >>> from raynas.nn import ValueChoice
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
        if isinstance(other, str | int | float | tuple):
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
        if isinstance(options, Expression):
            raise InvalidSpace(f"{self._where}: expected a list of options, got {options!r}")
        return tuple(map(plain_value, listed(self._where, options)))

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


def evaluate(argument: Any, arch: Mapping[str, Value]) -> Any:
    """Return an argument with every expression in nested tuples, lists and dicts evaluated."""
    if isinstance(argument, Expression):
        return argument.evaluate(arch)
    if isinstance(argument, MutableMapping):
        made = copy.copy(argument)  # keeps the kind, such as an OrderedDict or a defaultdict
        made.update({key: evaluate(part, arch) for key, part in argument.items()})
        return made
    if isinstance(argument, Mapping):
        return {key: evaluate(part, arch) for key, part in argument.items()}
    if isinstance(argument, tuple) and hasattr(argument, "_fields"):  # a named tuple
        return type(argument)(*(evaluate(part, arch) for part in argument))
    if isinstance(argument, tuple | list):
        return type(argument)(evaluate(part, arch) for part in argument)
    return argument


def leaves_of(argument: Any) -> tuple[Leaf, ...]:
    """Return the leaves of all expressions in nested tuples, lists and dicts, each once."""
    if isinstance(argument, Expression):
        return argument.leaves()
    inner: Iterable[Any] = ()
    if isinstance(argument, Mapping):
        inner = argument.values()
    elif isinstance(argument, tuple | list):
        inner = argument
    return tuple(dict.fromkeys(leaf for part in inner for leaf in leaves_of(part)))


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
