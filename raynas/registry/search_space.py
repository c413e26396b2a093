"""Base models, operators and mixed operators by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn

from raynas.core.errors import UnknownName
from raynas.core.registry import Registry, nearest_spelling
from raynas.gradient.mixed import MIXED_OPS
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import OPERATORS
from raynas.registry.registering import registered_by
from raynas.setup.algorithms import spelled_out
from raynas.setup.resolve import template_or_supernet

Kind = Literal["model", "primitive", "mixed_op"]
MODELS: Registry[Callable[..., nn.Module]] = Registry("base model")


def register(component: Any = None, name: str | None = None, *, kind: Kind | None = None) -> Any:
    """Register a component: ``@register``, ``@register("name")`` or ``register(it, "name")``.

    A base model is a search space by its name, ``raynas.search("YourModelClass", construct=...)``;
    a primitive is a candidate by its name; a mixed operator is a constructor's ``mixed_op``.

    Args:
        component: a class or function that builds it.
        name: None takes its own.
        kind: None tells a mixed operator by its methods, a primitive by its third parameter, which
            is a stride (``stride``, ``s``), and takes anything else for a base model.

    Raises:
        ValueError: the name is another's.
    """
    return registered_by(lambda own, made: _enter(own, made, kind), component, name)


def _enter(name: str, component: Any, kind: Kind | None) -> None:
    kind = _kind_of(component) if kind is None else kind
    if kind == "mixed_op":
        MIXED_OPS.register(name, component)
    elif kind == "primitive":
        OPERATORS.register(name, component)
    elif kind == "model":
        SPACES.register(name, _space_of(name, component))
        MODELS.register(name, component)
    else:
        raise ValueError(f"kind: expected model, primitive or mixed_op, got {kind!r}")


def _kind_of(component: Any) -> Kind:
    if inspect.isclass(component) and hasattr(component, "draw"):
        return "mixed_op"
    places = [
        parameter.name.strip("_").lower()
        for parameter in inspect.signature(component).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return "primitive" if len(places) == 3 and places[2] in ("stride", "s") else "model"


def _space_of(name: str, model: Callable[..., nn.Module]) -> Callable[..., ModelSpace]:
    """Return what builds the space of a base model, whose arguments are its options."""

    def space(**options: Any) -> ModelSpace:
        return ModelSpace(partial(model, **options), name=name)

    taken = inspect.signature(model).parameters.values()
    named = [p for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    space.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=p.KEYWORD_ONLY, annotation=Any) for p in named]
    )
    space.__doc__, space.__module__ = model.__doc__, model.__module__
    space.__qualname__ = getattr(model, "__qualname__", name)
    return space


def build(spec: Any, /, *args: Any, **options: Any) -> Any:
    """Return a new base model, operator or mixed operator.

    Of a registered space of raynas it is the template, where the space has one, else a supernet.

    Args:
        spec: a name, ``[name, {option: value}]``, or ``{"type": name, "args": {...}}``.
        args: handed to it as they are.
        options: those of the spec override them.

    Raises:
        UnknownName: nothing has the name.
    """
    name, own = spelled_out(spec)
    if not isinstance(name, str):
        raise TypeError(f"expected a name, [name, {{option: value}}], or a dict, got {spec!r}")
    return get_builder(name)(*args, **{**options, **own})


def get_builder(name: str) -> Callable[..., Any]:
    """Return what builds the component of a name.

    Raises:
        UnknownName: nothing has the name.
    """
    for registry in (MODELS, OPERATORS, MIXED_OPS):
        if name in registry:
            builder: Callable[..., Any] = registry.get_builder(name)
            return builder
    if name in SPACES:
        return partial(template_or_supernet, name)
    known = [known for registry in (SPACES, MODELS, OPERATORS, MIXED_OPS) for known in registry]
    raise UnknownName(f"no component named {name!r}; {nearest_spelling(name, known)}")
