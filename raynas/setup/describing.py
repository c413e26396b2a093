"""What a plug-in is, registered or a user's own: its documentation, options and use."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from raynas.core.options import REQUIRED, options_of
from raynas.core.registry import Registry
from raynas.core.train_settings import TrainSettings
from raynas.report.json_objects import OptionAnswer, Plugin
from raynas.report.plugin import without_arguments
from raynas.setup.examples import Example, example_of


def registered_plugin(registry: Registry[Any], given: str) -> Plugin:
    """Return what a registered name, or an alias of one, stands for.

    Raises:
        UnknownName: the registry has none of this name.
        ImportError: an entry point offers it and cannot be loaded.
    """
    name = registry.name_of(given)
    return plugin_of(
        registry.kind,
        name,
        registry[name],
        note="" if given == name else _as_alias(registry, given, name),
        aliases={alias: registry.alias_of(alias).told() for alias in registry.aliases_of(name)},
        training=_training_options(registry, name),
        example=example_of(registry, name),
    )


def plugin_of(
    kind: str,
    name: str,
    builder: Callable[..., Any],
    *,
    note: str = "",
    aliases: dict[str, str] | None = None,
    training: dict[str, Any] | None = None,
    example: Example | None = None,
) -> Plugin:
    """Return what a class or function is that makes a plug-in.

    Args:
        kind: of plug-in.
        name: of it.
        builder: class or function; its keyword-only parameters are the options.
        note: of what the name that was asked for is an alias.
        aliases: each with what it presets.
        training: settings of its training, with their defaults.
        example: how it is used.
    """
    target = builder.func if isinstance(builder, partial) else builder
    options = options_of(builder, without=("seed",)).values()
    doc = without_arguments(
        inspect.cleandoc(target.__doc__ or ""), {option.name for option in options}
    )
    source = None if "Source:" in doc else inspect.getdoc(inspect.getmodule(target))
    return Plugin(
        kind=kind,
        name=name,
        note=note,
        aliases=aliases or {},
        doc=doc,
        options=[_option(option.name, option.default) for option in options],
        training=training or {},
        source=source,
        python=None if example is None else example.python,
        command=None if example is None else example.command,
    )


def _option(name: str, default: object) -> OptionAnswer:
    required = default is REQUIRED
    return OptionAnswer(name=name, default=None if required else default, required=required)


def _as_alias(registry: Registry[Any], given: str, name: str) -> str:
    """Return of what a name is an alias, what it presets, and what its options are called."""
    alias = registry.alias_of(given)
    presets = f", with {alias.told()}" if alias.presets else ""
    words = [
        f"{word} ({own})" if isinstance(own, str) else word for word, own in alias.words.items()
    ]
    named = f" Also understood under it: {', '.join(words)}." if words else ""
    return f"{given} is an alias of {name}{presets}.{named}"


def _training_options(registry: Registry[Any], name: str) -> dict[str, Any]:
    """Return the ``TrainSettings`` that a one-shot algorithm takes among its options."""
    from raynas.supernet.protocol import ONE_SHOTS, one_shot_class

    if registry is not ONE_SHOTS:
        return {}
    return dict(TrainSettings(**one_shot_class(name).defaults))
