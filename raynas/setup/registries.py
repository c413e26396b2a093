"""What there is by name: the registries, their listings and descriptions."""

from __future__ import annotations

from contextlib import suppress
from difflib import SequenceMatcher
from typing import Any

from raynas.core.errors import UnknownName, nearest
from raynas.core.evaluator import EVALUATORS
from raynas.core.model_names import is_model_name
from raynas.core.registry import Registry, nearest_spelling, normalised
from raynas.core.sampler import SAMPLERS
from raynas.report.json_objects import Description
from raynas.report.plugin import plugin_text
from raynas.setup.describing import registered_plugin
from raynas.setup.named_models import named_plugin
from raynas.setup.own_plugin import own_plugin

NEAR, AS_NEAR = 0.6, 0.15  # likeness of a name worth telling, and how much less than the best


def registries() -> dict[str, list[Registry[Any]]]:
    """Return every registry by the kind that users call it."""
    from raynas.data.module import DATA
    from raynas.gradient.mixed import MIXED_OPS
    from raynas.nn.construct.chain import CONSTRUCTORS
    from raynas.nn.export.exporters import EXPORTERS
    from raynas.nn.graph import GRAPH_OPERATORS
    from raynas.nn.modelspace import SPACES
    from raynas.nn.operators import OPERATORS
    from raynas.report.tracking import TRACKERS
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
        "trackers": [TRACKERS],
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
    """Return what a name stands for: its kind, description, options, defaults and an example.

    An alias is told as such; what several registries know is described once for each.

    Args:
        name: registered; or ``module:Class`` of a space, an algorithm, an evaluator, a task or a
            data set of a user's own; or a model of a library, such as ``timm:resnet18``.

    Raises:
        UnknownName: nothing has this name; the nearest of its kind is named.
        LookupError: what ``module:Class`` names cannot be imported.
        TypeError: it is no kind of plug-in.
        ImportError: an entry point offers it and cannot be loaded.
    """
    return "\n\n".join(map(plugin_text, description(name).plugins))


def description(name: str) -> Description:
    """Return what ``describe`` tells, as an object.

    Args:
        name: as for ``describe``.
    """
    if is_model_name(name):
        return Description(name=name, plugins=[named_plugin(name)])
    if ":" in name:
        return Description(name=name, plugins=[own_plugin(name)])
    plugins = []
    for registry in _all():
        with suppress(UnknownName):
            plugins.append(registered_plugin(registry, name))
    if not plugins:
        raise UnknownName(f"nothing is named {name!r}; {_nearest_of_each_kind(name)}")
    return Description(name=name, plugins=plugins)


def _all() -> list[Registry[Any]]:
    return [registry for group in registries().values() for registry in group]


def _nearest_of_each_kind(word: str) -> str:
    """Return a hint that names the nearest name, and those of other kinds that are as near."""
    nearest_names: dict[str, tuple[float, str]] = {}
    for kind, group in registries().items():
        words = {known for registry in group for known in _words(registry)}
        likeness = {
            known: SequenceMatcher(None, normalised(word), normalised(known)).ratio()
            for known in words
        }
        best = max(sorted(likeness), key=likeness.__getitem__)
        nearest_names[kind] = likeness[best], best
    limit = max(NEAR, max(score for score, _ in nearest_names.values()) - AS_NEAR)
    close = {kind: found for kind, found in nearest_names.items() if found[0] >= limit}
    if not close:
        return nearest_spelling(word, (known for registry in _all() for known in registry))
    if len(close) == 1:
        ((_, name),) = close.values()
        return f"did you mean {name!r}?"
    ordered = sorted(close, key=lambda kind: -close[kind][0])
    named = [f"{close[kind][1]!r} (among the {kind.replace('_', ' ')})" for kind in ordered]
    return f"did you mean {', '.join(named[:-1])} or {named[-1]}?"


def _words(registry: Registry[Any]) -> list[str]:
    return [word for name in registry for word in (name, *registry.aliases_of(name))]
