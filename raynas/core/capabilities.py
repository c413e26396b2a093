"""Capabilities: attributes that a base declares with defaults, and that a subclass may set."""

from __future__ import annotations

import types
from collections.abc import Mapping
from difflib import SequenceMatcher

ALIKE = 0.85  # similarity of two names from which on one is taken for a slip of the other
_CODE = (types.FunctionType, staticmethod, classmethod, property)


def refuse_misspelt(owner: str, attributes: Mapping[str, object], base: type) -> None:
    """Raise TypeError if a name is a slip of an attribute that a base declares.

    Data are compared with data of the same type. Methods are compared with methods, and are slips
    only if nothing but case and underscores differ: ``derived`` beside ``derive`` may be meant.

    >>> class Base:
    ...     startup: int | None = 0
    >>> refuse_misspelt("Toy", {"starts": 3, "start_up": 10}, Base)
    Traceback (most recent call last):
        ...
    TypeError: Toy.start_up: a Base has no attribute 'start_up'; did you mean 'startup'?

    Args:
        owner: whose attributes they are.
        attributes: its own, of a class or an object; private ones may have any name.
        base: declares attributes and methods.
    """
    declared = {name: value for name, value in vars(base).items() if not name.startswith("_")}
    for name, value in attributes.items():
        if name.startswith("_") or name in declared:
            continue
        for right, default in declared.items():
            if _is_slip(name, value, right, default):
                raise TypeError(
                    f"{owner}.{name}: a {base.__name__} has no attribute {name!r}; did you mean "
                    f"{right!r}?"
                )


def _is_slip(name: str, value: object, right: str, default: object) -> bool:
    name, right = (word.replace("_", "").lower() for word in (name, right))
    if isinstance(value, _CODE) or isinstance(default, _CODE):
        return name == right and isinstance(value, _CODE) and isinstance(default, _CODE)
    of_its_type = value is None or isinstance(value, type(default))
    return of_its_type and SequenceMatcher(None, name, right).ratio() >= ALIKE
