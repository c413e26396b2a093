"""Templates that are searched: what constructors make of them, and how a run folder names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.setup.objects import KNOWN_AS, recorded

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace

CONSTRUCT = "construct"


def constructed(template: ModelSpace, spec: ComponentSpec, construct: Any) -> ModelSpace:
    """Return the space of the models that constructors make of a template.

    Args:
        template: builds models with empty slots, or whatever the constructors take.
        spec: how a run folder names it.
        construct: one constructor or several, as for ``raynas.nn.construct.construct``.

    Raises:
        TypeError, ValueError, UnknownName: one of them is none, or has no such option.
    """
    from raynas.nn.construct.chain import built_from, listed
    from raynas.nn.modelspace import ModelSpace

    try:
        specs = listed(construct)
    except TypeError as error:
        raise TypeError(f"construct: {error}") from None
    named = [_named(constructor) for constructor in specs]
    space = ModelSpace(partial(built_from, template.factory, specs), name=template.name)
    space.signature = template.signature
    space.spec = spec.model_copy(update={"options": {**spec.options, CONSTRUCT: named}})
    return space.seeded(template.seed)


def _named(constructor: Any) -> Any:
    """Return a constructor as the run folder keeps it: its true name with its options."""
    from raynas.nn.construct.absent import refuse_absent
    from raynas.nn.construct.chain import CONSTRUCTORS, Configured

    if isinstance(constructor, Configured):
        constructor = [constructor.name, constructor.options]
    if callable(constructor):
        return recorded(constructor)
    refuse_absent(constructor)
    name, options = CONSTRUCTORS.resolved(constructor)
    return [name, {key: recorded(value) for key, value in options.items()}]


def construct_in(spec: ComponentSpec) -> Any:
    """Return the constructors that a run folder names; None if there are none.

    Raises:
        LookupError: one was a function of a user's own, or had arguments that are not plain.
    """
    specs = spec.options.get(CONSTRUCT)
    for constructor in specs or ():
        parts = [constructor] if isinstance(constructor, Mapping) else [*constructor[1].values()]
        for part in parts:
            if isinstance(part, Mapping) and KNOWN_AS in part:
                raise LookupError(
                    f"a constructor of {spec.name} is known as {part[KNOWN_AS]} only: pass the "
                    "space that was constructed"
                )
    return specs


def template_of(space: ModelSpace) -> Callable[..., Any]:
    """Return the factory of a space, before any constructor."""
    from raynas.nn.construct.chain import built_from

    factory: Any = space.factory
    if isinstance(factory, partial) and factory.func is built_from:
        template: Callable[..., Any] = factory.args[0]
        return template
    return space.factory
