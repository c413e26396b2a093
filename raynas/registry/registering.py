"""A registration that is a decorator and a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def registered_by(enter: Callable[[str, Any], object], given: Any, name: str | None) -> Any:
    """Register an object, or return a decorator that does; the object itself comes back.

    Args:
        enter: registers an object under a name.
        given: a class or function; or a name, or None, for a decorator.
        name: None takes the object's own.
    """
    if given is None or isinstance(given, str):
        return lambda made: registered_by(enter, made, given or name)
    own = name or getattr(given, "__name__", None)
    if not isinstance(own, str):
        raise TypeError(f"register: name what is registered, {given!r} has no name of its own")
    enter(own, given)
    return given
