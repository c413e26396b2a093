"""What there is by name: the registries, their listings and descriptions."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import partial
from typing import Any

from raynas.core.errors import UnknownName, nearest
from raynas.core.evaluator import EVALUATORS
from raynas.core.options import options_of
from raynas.core.registry import Registry, nearest_spelling
from raynas.core.sampler import SAMPLERS
from raynas.core.train_settings import TrainSettings
from raynas.report.plugin import without_arguments


def registries() -> dict[str, list[Registry[Any]]]:
    """Return every registry by the kind that users call it."""
    from raynas.data.module import DATA
    from raynas.gradient.mixed import MIXED_OPS
    from raynas.nn.construct.chain import CONSTRUCTORS
    from raynas.nn.export.exporters import EXPORTERS
    from raynas.nn.graph import GRAPH_OPERATORS
    from raynas.nn.modelspace import SPACES
    from raynas.nn.operators import OPERATORS
    from raynas.supernet.protocol import ONE_SHOTS
    from raynas.tasks import TASKS

    return {
        "algorithms": [SAMPLERS, ONE_SHOTS],
        "spaces": [SPACES],
        "operators": [OPERATORS, GRAPH_OPERATORS],
        "mixed_operators": [MIXED_OPS],
        "constructors": [CONSTRUCTORS],
        "exporters": [EXPORTERS],
        "evaluators": [EVALUATORS],
        "data": [DATA],
        "tasks": [TASKS],
    }


def available(kind: str) -> list[str]:
    """Return the registered names of a kind: algorithms, spaces, operators, evaluators, data, ...

    Raises:
        ValueError: there is no such kind.
    """
    kinds = registries()
    if kind not in kinds:
        raise ValueError(f"no kind of plug-in is named {kind!r}; {nearest(kind, kinds)}")
    return sorted({name for registry in kinds[kind] for name in registry})


def describe(name: str) -> str:
    """Return what a registered name is: its kind, description, options and defaults.

    An alias is told as such; what several registries know is described once for each.

    Raises:
        UnknownName: nothing has this name.
        ImportError: an entry point offers it and cannot be loaded.
    """
    every = [registry for group in registries().values() for registry in group]
    found: list[str] = []
    for registry in every:
        with suppress(UnknownName):
            found.append(_described(registry, name))
    if not found:
        names = [(registry, known) for registry in every for known in registry]
        aliases = (alias for registry, known in names for alias in registry.aliases_of(known))
        hint = nearest_spelling(name, (known for _, known in names), aliases)
        raise UnknownName(f"nothing is named {name!r}; {hint}")
    return "\n\n".join(found)


def _described(registry: Registry[Any], given: str) -> str:
    name = registry.name_of(given)
    builder, aliases = registry[name], registry.aliases_of(name)
    target = builder.func if isinstance(builder, partial) else builder
    options = options_of(builder, without=("seed",)).values()
    lines = [] if given == name else [f"{given} is an alias of {name}.", ""]
    told = without_arguments(inspect.getdoc(target) or "", {option.name for option in options})
    lines += [f"{name} ({registry.kind})", "", told]
    if aliases:
        lines += ["", f"Aliases: {', '.join(aliases)}"]
    if options:
        lines += ["", "Defaults:", *(f"  {o.name} = {_default(o.default)}" for o in options)]
    if trained := _training_options(registry, name):
        lines += ["", "Defaults of its training:", *trained]
    if "Source:" not in told:
        lines += ["", f"Source: {inspect.getdoc(inspect.getmodule(target)) or 'unknown'}"]
    return "\n".join(lines)


def _training_options(registry: Registry[Any], name: str) -> list[str]:
    """Return the ``TrainSettings`` that a one-shot algorithm takes among its options, as lines."""
    from raynas.supernet.protocol import ONE_SHOTS, one_shot_class

    if registry is not ONE_SHOTS:
        return []
    settings = TrainSettings(**one_shot_class(name).defaults)
    return [f"  {name} = {value!r}" for name, value in settings]


def _default(value: object) -> str:
    return "(required)" if value is inspect.Parameter.empty else repr(value)
