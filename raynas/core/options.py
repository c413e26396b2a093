"""Options of plug-ins: which there are, and whether the given ones fit."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """Return a plug-in's keyword-only parameters, in order."""
    target = builder.func if isinstance(builder, partial) else builder
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    found = {}
    for name, parameter in inspect.signature(builder).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and name not in without:
            found[name] = Option(name, hints.get(name, Any), parameter.default)
    return found


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
