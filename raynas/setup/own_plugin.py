"""What a user's own ``module:Class`` is: a space, an algorithm, an evaluator, a task, data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from raynas.core.archspace import ArchSpace
from raynas.core.evaluator import Evaluator
from raynas.core.sampler import Sampler
from raynas.evaluators.protocols import METHODS
from raynas.report.as_json import space_answer
from raynas.report.json_objects import Plugin
from raynas.setup.describing import plugin_of
from raynas.setup.examples import Example
from raynas.setup.objects import imported

CHEAP_PARAMS = 20_000_000  # of a supernet whose costs are looked up without being asked for
SAMPLES = 100


def own_plugin(path: str) -> Plugin:
    """Return what a user's own class, function or space is.

    Args:
        path: ``module:Class``.

    Raises:
        LookupError: it cannot be imported.
        TypeError: it is no kind of plug-in.
    """
    from torch import nn

    from raynas.nn.modelspace import ModelSpace

    given = imported(path)
    if inspect.isclass(given) and (kind := _kind_of(given)) is not None:
        return plugin_of(kind, path, given, example=_example(kind, path, given))
    is_net = inspect.isclass(given) and issubclass(given, nn.Module)
    if is_net or isinstance(given, ArchSpace | ModelSpace) or _builds(given):
        return _space(path, given)
    if inspect.isroutine(given):
        return plugin_of("evaluator", path, given, example=_example("evaluator", path, given))
    raise TypeError(
        f"{path}: expected a model with choices, a space, an algorithm, an evaluator, a task or a "
        f"data set, got {given!r}"
    )


def _kind_of(cls: type) -> str | None:
    """Return the kind of plug-in that a class is by its base or its methods."""
    from raynas.data.module import DataModule
    from raynas.supernet.protocol import OneShot
    from raynas.tasks import Task

    bases: dict[str, type] = {
        "algorithm": Sampler,
        "one-shot algorithm": OneShot,
        "task": Task,
        "data set": DataModule,
        "evaluator": Evaluator,
    }
    for kind, base in bases.items():
        if issubclass(cls, base):
            return kind
    return "evaluator" if any(hasattr(cls, method) for method in METHODS) else None


def _builds(given: Any) -> bool:
    """Return whether this is a function without required arguments, as builds a model."""
    if not inspect.isroutine(given):
        return False
    parameters = inspect.signature(given).parameters.values()
    return all(
        p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )


def _space(path: str, given: Any) -> Plugin:
    from raynas.setup.resolve import resolve_space

    space = resolve_space(given, {}, None)
    module, _, name = path.partition(":")
    example = Example(
        f"from {module} import {name}; raynas.search({name}, 'random', trials=50)",
        f"raynas search {path} --algo random --trials 50" if callable(given) else None,
    )
    if callable(given):
        plugin = plugin_of("search space", path, given, example=example)
    else:  # an object: how it was made is not documented with it
        plugin = Plugin(kind="search space", name=path, python=example.python)
    costs = None if space.model_space is None else _costs(given, space.model_space)
    return plugin.model_copy(update={"space": space_answer(space.arch_space, costs)})


def _costs(given: Any, model: Any) -> Any:
    """Return the profile of a space whose costs are had at once; None for others."""
    from raynas.setup.costing import profile

    if model.signature is None:
        return None
    params = sum(parameter.numel() for parameter in model.supernet().parameters())
    return profile(given, samples=SAMPLES) if params <= CHEAP_PARAMS else None


def _example(kind: str, path: str, given: Callable[..., Any]) -> Example | None:
    module, _, name = path.partition(":")
    called = name if inspect.isroutine(given) else f"{name}()"
    python = {
        "algorithm": f"SAMPLERS.register('own', {name}); raynas.search('mlp', 'own', trials=50)",
        "one-shot algorithm": f"raynas.search('nas_bench_201', {name}(seed=0), epochs=20)",
        "task": f"raynas.search(Net, data=(train, valid), task={called})",
        "data set": f"raynas.search('mlp', 'random', data={called}, trials=50)",
        "evaluator": f"raynas.search('mlp', 'random', evaluator={called}, trials=50)",
    }.get(kind)
    if python is None:
        return None
    imports = "from raynas.core.sampler import SAMPLERS; " if kind == "algorithm" else ""
    return Example(f"from {module} import {name}; {imports}{python}")
