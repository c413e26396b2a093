"""The space behind what a user gives, and how a registered plug-in is built from options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec
from raynas.core.model_names import is_model_name, is_own_path
from raynas.core.options import checked, options_of
from raynas.core.registry import Registry
from raynas.core.spacejson import from_plain, to_plain
from raynas.setup.constructed import CONSTRUCT, construct_in, constructed
from raynas.setup.named_models import INPUTS, build_named
from raynas.setup.objects import own_factory, own_spec
from raynas.setup.problem import Data, Space

if TYPE_CHECKING:
    from torch import nn

    from raynas.nn.modelspace import ModelSpace

PLAIN_SPACE = "ArchSpace"
RESOLUTIONS = "resolutions"
SLOTS = "slots"
GIVEN_MODELS = (
    "raynas.nn.conversion.elastic_space:ElasticFactory",
    "raynas.nn.named.named_space:NamedFactory",
)
NOT_KEPT = (
    "the space of this run is a model that was given as an object (raynas.elastic), which no "
    "folder holds: pass it again, in Python (raynas.load(path, space=...)); or search "
    "module:function, a function that returns the space, which commands find too"
)
Options = Mapping[str, Any]


def build(
    registry: Registry[Any], name: str, options: Options, **given: Any
) -> tuple[Any, ComponentSpec]:
    """Build a registered plug-in after checking its options; also return how to build it again.

    Args:
        registry: that holds it.
        name: registered.
        options: the user's own.
        given: what the run itself hands in, where the plug-in takes it and the user did not.
    """
    builder = registry[name]
    fitted = checked(registry.kind, name, builder, options)
    known = options_of(builder)
    whole = {k: v for k, v in given.items() if k in known} | fitted
    return builder(**whole), ComponentSpec(name=registry.name_of(name), options=whole)


def resolve_space(space: Any, options: Options, data: Data | None, construct: Any = None) -> Space:
    """Return the space behind a name, a ModelSpace, an ArchSpace, or a class or factory of modules.

    A registered space is built for the data: its classes, channels and resolution. Where there are
    constructors, one that has an option ``slots`` is built with it.

    Args:
        space: any of these.
        options: of a registered one; ``construct`` may be among them.
        data: that it is searched on.
        construct: what makes a space of a template (``raynas.nn.construct``).

    Raises:
        TypeError: ``space`` is none of these, or options are given for what has none.
    """
    if isinstance(space, ComponentSpec):
        return rebuild_space(space, data)
    options = dict(options)
    kept = options.pop(CONSTRUCT, None)
    construct = kept if construct is None else construct
    if isinstance(space, ArchSpace):
        if options or construct is not None:
            raise TypeError("an ArchSpace has no options, and no model to be constructed")
        plain = {"choices": to_plain(space)}
        return Space(ComponentSpec(name=PLAIN_SPACE, options=plain), space, None)
    return _constructed(*_models(space, options, data, construct is not None), construct)


def _constructed(model: ModelSpace, spec: ComponentSpec, construct: Any) -> Space:
    """Return the space of what constructors, if there are any, make of a template."""
    if construct is not None and CONSTRUCT not in spec.options:
        model = constructed(model, spec, construct)
        spec = model.spec or spec
    return Space(spec, model.arch_space, model)


def _models(
    space: Any, options: Options, data: Data | None, template: bool
) -> tuple[ModelSpace, ComponentSpec]:
    """Return what builds models, or templates of them, and how a run folder names it."""
    from raynas.nn.modelspace import ModelSpace

    if is_model_name(space):
        shown = {} if data is None else {INPUTS: data.module.signature}
        model: ModelSpace
        model, spec = build_named(space, options, **_facts(data), **shown)
        model.spec = spec
        return model, spec
    if isinstance(space, str):
        slots = {SLOTS: True} if template and has_slots(space) else {}
        model, spec = build_space(space, {**slots, **options}, **_facts(data))
        return _with_shape(model, data), spec
    if options:
        raise TypeError("space options go with a registered space's name; configure the object")
    if isinstance(space, ModelSpace):
        return _with_shape(space, data), space.spec or own_spec(space.factory)
    if callable(space) and not _is_module(space):
        made = _given_by(space)
        return _with_shape(made, data), made.spec or own_spec(space)
    raise TypeError(
        "space: expected a registered name, an ArchSpace, a ModelSpace, or a class or function "
        f"that builds an nn.Module with choices, got {type(space).__name__}"
        + (": pass its class, or lambda: model" if _is_module(space) else "")
    )


def _given_by(factory: Any) -> ModelSpace:
    """Return the space that a function returns, else that of the modules that it builds."""
    import torch

    from raynas.nn.modelspace import ModelSpace
    from raynas.nn.random_state import own_random_state

    if inspect.isroutine(factory):
        with own_random_state(torch.device("cpu"), 0):  # a model's weights may be drawn
            made = factory()
        if isinstance(made, ModelSpace):
            return made
    return ModelSpace(factory)


def build_space(name: str, options: Options, **given: Any) -> tuple[ModelSpace, ComponentSpec]:
    """Build a registered space, at several resolutions where the options list these.

    Any space of images takes an option ``resolutions``, whether or not it has one of its own.
    """
    from raynas.nn.modelspace import SPACES
    from raynas.nn.resolution import at_resolutions

    if is_model_name(name):
        return build_named(name, options, **given)
    if RESOLUTIONS in options_of(SPACES[name]):
        return build(SPACES, name, options, **given)
    others = {key: value for key, value in options.items() if key != RESOLUTIONS}
    if (sizes := options.get(RESOLUTIONS)) is None:
        return build(SPACES, name, others, **given)
    if not isinstance(sizes, list | tuple) or not sizes:
        raise ValueError(f"{name}: resolutions is a list of sizes, such as [16, 24], got {sizes!r}")
    model, spec = build(SPACES, name, others, **given)
    spec = ComponentSpec(name=spec.name, options=spec.options | {RESOLUTIONS: list(sizes)})
    return at_resolutions(model, sizes), spec


def template_or_supernet(name: str, **options: Any) -> nn.Module:
    """Return a new model of a registered space: with empty slots, where it has an option for them.

    Args:
        name: of the space.
        options: of the space.
    """
    model, _ = _models(name, options, None, template=True)
    return model.factory() if has_slots(name) else model.supernet()


def has_slots(name: str) -> bool:
    """Return whether a registered space is a template on request."""
    from raynas.nn.modelspace import SPACES

    return not is_model_name(name) and SLOTS in options_of(SPACES[name])


def _is_module(given: object) -> bool:
    from torch import nn

    return isinstance(given, nn.Module)


def rebuild_space(spec: ComponentSpec, data: Data | None) -> Space:
    """Return the space that a run folder names.

    Raises:
        LookupError: it was a user's own and cannot be imported here.
    """
    if spec.name == PLAIN_SPACE:
        space = from_plain(spec.options["choices"])
        return Space(spec, space, None)
    try:
        construct = construct_in(spec)
        if not is_own_path(spec.name):  # the options hold all that data gave but the shape
            options = {key: value for key, value in spec.options.items() if key != CONSTRUCT}
            model, built = _models(spec.name, options, None, construct is not None)
            return _constructed(_with_shape(model, data), built, construct)
        own = own_factory(spec)
    except LookupError as error:
        if spec.name in GIVEN_MODELS:
            raise LookupError(NOT_KEPT) from error
        raise LookupError(
            f"the space of this run was a user's own: {error}; pass raynas.load(path, space=...)"
        ) from error
    return resolve_space(own, {}, data, construct)


def space_again(spec: ComponentSpec, own: Any, data: Data | None) -> Space:
    """Return the space that a run folder names, or the user's own in its place.

    Args:
        spec: in the run folder.
        own: the user's own, where it cannot be imported; else None. A template is constructed as
            the run says.
        data: that it was searched on.

    Raises:
        LookupError: it cannot be imported here.
    """
    if own is None:
        return rebuild_space(spec, data)
    return resolve_space(own, {}, data, spec.options.get(CONSTRUCT))


def _facts(data: Data | None) -> dict[str, Any]:
    """Return what data say of a registered space: outputs, channels and resolution."""
    if data is None:
        return {}
    shape, width = data.module.input_shape, data.module.width
    facts: dict[str, Any] = {} if width is None else {"num_classes": width}
    if shape:
        facts["in_channels"] = shape[0]
    return facts | ({"resolution": shape[-1]} if shape is not None and len(shape) == 3 else {})


def _with_shape(space: ModelSpace, data: Data | None) -> ModelSpace:
    return space if data is None else space.taking(data.module.signature)


def mapping(name: str, given: Any) -> dict[str, Any]:
    """Return what was given as a dict, empty for None; raise TypeError if it is none."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name}: expected a dict, got {given!r}")
    return dict(given or {})
