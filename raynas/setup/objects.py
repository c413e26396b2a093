"""Objects and functions of a user's own: their options, and their import paths."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from raynas.core.errors import nearest
from raynas.core.options import options_of


def own_options(
    cls: Callable[..., Any], thing: object, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a configured object's options, which it keeps as attributes of the same names."""
    known = options_of(cls, without=without)
    return {key: getattr(thing, key) for key in known if hasattr(thing, key)}


def import_path(thing: Any) -> str:
    """Return ``module:name`` of a class or function; ``name`` may not be importable."""
    inner = inspect.unwrap(thing)
    name = getattr(inner, "__qualname__", type(inner).__name__)
    return f"{getattr(inner, '__module__', '?')}:{name}"


def imported(path: str) -> Any:
    """Return the object behind ``module:name``.

    Raises:
        LookupError: there is none; the message says why, or names the nearest.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise LookupError(f"{module} cannot be imported: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise LookupError(f"{module} has no {name!r}; {nearest(part, vars(found))}")
        found = getattr(found, part)
    return found
