"""Objects and functions of a user's own: their options, arguments and import paths."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from raynas.core.config import ComponentSpec
from raynas.core.errors import nearest
from raynas.core.evaluator import EVALUATORS
from raynas.core.options import options_of
from raynas.core.recorded_objects import is_installed, recorded_object
from raynas.core.split_spec import split_spec

ARGUMENTS = "arguments"  # option under which a partial's arguments stand in a run folder
KNOWN_AS = "known_as"  # what stands there for an argument that JSON cannot hold


def own_options(
    cls: Callable[..., Any], configured: object, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a configured object's options, which it keeps as attributes of the same names.

    Functions, and other objects that can be called, are named by their import path.
    """
    declared = options_of(cls, without=without)
    given = {key: getattr(configured, key) for key in declared if hasattr(configured, key)}
    return {k: import_path(v) if callable(v) else v for k, v in given.items()}


def named_evaluator(given: Any) -> Any:
    """Return the registered class behind a name, in any form of ``Registry.build``; else ``given``.

    Raises:
        UnknownName: no evaluator has this name.
    """
    word, _ = split_spec(given)
    return EVALUATORS[word] if isinstance(word, str) else given


def own_spec(factory: Any) -> ComponentSpec:
    """Return how the run folder names a class or function of a user's own.

    The arguments of a ``functools.partial`` are recorded: plain ones as they are, classes and
    functions by their import path, others by a digest, so that other arguments are another factory.
    """
    if not isinstance(factory, partial):
        plain = inspect.isclass(factory) or inspect.isroutine(factory)
        made = {} if plain else {ARGUMENTS: {"0": {KNOWN_AS: f"a {type(factory).__name__}"}}}
        return ComponentSpec(name=import_path(factory), options=made)
    inner = own_spec(factory.func)
    given = {str(at): recorded(value) for at, value in enumerate(factory.args)}
    given |= {name: recorded(value) for name, value in factory.keywords.items()}
    return ComponentSpec(
        name=inner.name, options={ARGUMENTS: {**inner.options.get(ARGUMENTS, {}), **given}}
    )


def recorded(value: Any) -> Any:
    """Return an argument as the run folder keeps it."""
    if is_plain(value):
        return value
    if inspect.isclass(value) or inspect.isroutine(value):
        return {KNOWN_AS: import_path(value)}
    try:
        digest = hashlib.sha256(pickle.dumps(value)).hexdigest()[:16]
    except Exception:  # what cannot be pickled is only known by its type
        digest = "unpickled"
    return {KNOWN_AS: f"{type(value).__name__} {digest}"}


def own_factory(spec: ComponentSpec) -> Any:
    """Return the class or function that a run folder names.

    Raises:
        LookupError: it cannot be imported here, or is none of a user's own, or an argument of it
            was not plain.
    """
    factory = recorded_object(spec.name)
    arguments: Mapping[str, Any] = spec.options.get(ARGUMENTS, {})
    if arguments and not inspect.isclass(factory) and is_installed(spec.name):
        raise LookupError(f"{spec.name} is a library's function, which is not called by a file")
    for name, value in arguments.items():
        if isinstance(value, dict) and KNOWN_AS in value:
            raise LookupError(f"argument {name} of {spec.name} is known as {value[KNOWN_AS]} only")
    places = sorted((name for name in arguments if name.isdigit()), key=int)
    keywords = {name: value for name, value in arguments.items() if not name.isdigit()}
    positional = [arguments[place] for place in places]
    return partial(factory, *positional, **keywords) if arguments else factory


def is_plain(value: object) -> bool:
    """Return whether a value can be written as JSON."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def import_path(named: Any) -> str:
    """Return ``module:name`` of a class or function; ``name`` may not be importable."""
    inner = inspect.unwrap(named)
    name = getattr(inner, "__qualname__", type(inner).__name__)
    return f"{getattr(inner, '__module__', '?')}:{name}"


def imported(path: str) -> Any:
    """Return the object behind ``module:name``.

    Raises:
        LookupError: there is none; the message says why, or names the nearest.
    """
    module, _, name = path.partition(":")
    try:
        place: Any = importlib.import_module(module)
    except ImportError as error:
        raise LookupError(f"{module} cannot be imported: {error}") from error
    for part in name.split("."):
        if not hasattr(place, part):
            raise LookupError(f"{module} has no {name!r}; {nearest(part, vars(place))}")
        place = getattr(place, part)
    return place
