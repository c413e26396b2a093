"""Options of plug-ins: which there are, and whether the given ones fit."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from raynas.core.errors import nearest

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """One keyword of a plug-in, its type and its default."""

    name: str
    type: Any
    default: Any


def options_of(builder: Callable[..., Any], *, without: tuple[str, ...] = ()) -> dict[str, Option]:
    """Return a plug-in's keyword-only parameters, in order.

    Those that a dataclass inherits come after its own.
    """
    target = builder.func if isinstance(builder, partial) else builder
    hints = _hints(target)
    options = {
        name: Option(name, hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in without
    }
    if not is_dataclass(target):
        return options
    return {name: options[name] for name in _own_first(target) if name in options}


def _hints(target: Any) -> dict[str, Any]:
    """Return the types of parameters; names in a dataclass are those of the file of each class."""
    if is_dataclass(target) or not inspect.isclass(target):
        return typing.get_type_hints(target)
    return typing.get_type_hints(target.__init__)


def _own_first(cls: Any) -> list[str]:
    """Return a dataclass' fields, its own before those of its bases; each where it stood first."""
    names: list[str] = []
    for base in reversed(cls.__mro__):
        introduced = [
            name for name in vars(base).get("__dataclass_fields__", ()) if name not in names
        ]
        names = introduced + names
    return names


def checked(
    kind: str,
    name: str,
    builder: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    without: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the options, converted to the types that the plug-in declares.

    Raises:
        ValueError: an option that it does not have (the nearest is named), or of another type.
    """
    known = options_of(builder, without=without)
    return {key: _fit(f"{kind} {name!r}", known, key, value) for key, value in options.items()}


def _fit(where: str, known: Mapping[str, Option], key: str, value: Any) -> Any:
    if key not in known:
        raise ValueError(f"{where} has no option {key!r}; {nearest(key, known)}")
    try:
        return _adapter(known[key].type).validate_python(value)
    except ValidationError as error:
        text = error.errors()[0]["msg"]
        raise ValueError(
            f"{where}: option {key!r}: {text[0].lower()}{text[1:]}, got {value!r}"
        ) from None


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
