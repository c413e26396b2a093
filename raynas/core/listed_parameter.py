"""A parameter of somebody else's study as a decision: its values listed, whatever they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raynas.core.arch import Value
from raynas.core.decision import Choice

LISTABLE = 1024  # values of one parameter that are told apart, each an option of its own


@dataclass(frozen=True)
class ListedParameter:
    """A finite parameter and the choice that stands for it.

    >>> kind = ListedParameter.of("kind", [dict, list])
    >>> kind.choice.options, kind.value(1), kind.option(dict)
    ((0, 1), <class 'list'>, 0)

    Attributes:
        choice: its options are the values, or their numbers where one is not plain or comes twice.
        values: in the order of the options.
    """

    choice: Choice
    values: tuple[Any, ...]

    @classmethod
    def of(cls, label: str, values: Iterable[Any]) -> ListedParameter:
        """List a parameter's values.

        Raises:
            InvalidSpace: there is none.
        """
        listed = tuple(values)
        try:
            return cls(Choice(label, listed), listed)
        except (TypeError, ValueError):
            return cls(Choice(label, tuple(range(len(listed)))), listed)

    def value(self, option: Value) -> Any:
        """Return the value that an option stands for."""
        return self.values[self.choice.index(option)]

    def option(self, value: Any) -> Value:
        """Return the option that stands for a value.

        Raises:
            ValueError: it is none of the values.
        """
        for option, known in zip(self.choice.options, self.values, strict=True):
            if known is value or (type(known) is type(value) and bool(known == value)):
                return option
        raise ValueError(f"{self.choice.label!r} is {value!r}, not one of its values")
