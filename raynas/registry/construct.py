"""Constructors by name, each called with a model: ``build("DefaultOpConstructor", op="NC3")``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from raynas.nn.construct.absent import refuse_absent
from raynas.nn.construct.chain import CONSTRUCTORS, Configured
from raynas.registry.registering import registered_by


def register(constructor: Any = None, name: str | None = None) -> Any:
    """Register a constructor: ``@register``, ``@register("name")`` or ``register(it, "name")``.

    Args:
        constructor: a function of a model and keyword options; or a class of options, whose
            instances are called with a model.
        name: None takes its own.

    Raises:
        ValueError: the name is another's.
    """
    return registered_by(_enter, constructor, name)


def _enter(name: str, constructor: Any) -> None:
    made = _of_class(constructor) if inspect.isclass(constructor) else constructor
    CONSTRUCTORS.register(name, made)


def _of_class(cls: type) -> Callable[..., nn.Module]:
    def constructor(model: nn.Module, **options: Any) -> nn.Module:
        made: nn.Module = cls(**options)(model)
        return made

    constructor.__doc__, constructor.__module__ = cls.__doc__, cls.__module__
    constructor.__qualname__ = cls.__qualname__
    return constructor


def build(spec: Any, /, **options: Any) -> Configured:
    """Return a constructor with its options, to be called or for ``raynas.search(construct=)``.

    Args:
        spec: a name, ``[name, {option: value}]``, or ``{"type": name, "args": {...}}``.
        options: those of the spec override them.

    Raises:
        UnknownName: no constructor has the name.
        ValueError: an option that it does not have.
        TypeError: an option is missing.
    """
    refuse_absent(spec)
    name, settled = CONSTRUCTORS.resolved(spec, **options)
    try:
        inspect.signature(CONSTRUCTORS[name]).bind(None, **settled)
    except TypeError as error:
        raise TypeError(f"constructor {name!r}: {error}") from None
    return Configured(name, settled)


def get_builder(name: str) -> Callable[..., Configured]:
    """Return what takes a constructor's options and gives the constructor."""
    refuse_absent(name)
    CONSTRUCTORS.name_of(name)
    return partial(build, name)


def __getattr__(name: str) -> Callable[..., Configured]:
    if name.startswith("_") or name not in CONSTRUCTORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return get_builder(name)
