"""How a plug-in is used: a line of Python and one of the command line for each kind."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from raynas.core.metrics import COSTS
from raynas.core.options import REQUIRED, options_of
from raynas.core.registry import Registry

SMALL, OF_CHOICES = "mlp", "nas_bench_201"  # spaces that anything, and any mixture, can search
PLACES = {"path": "FILE"}  # what stands for an option that only its user knows


class Example(NamedTuple):
    """A line of Python, and one of the command line where there is a flag for it."""

    python: str
    command: str | None = None


def example_of(registry: Registry[Any], name: str) -> Example | None:
    """Return how a registered plug-in is used; None for a kind that has no example.

    Args:
        registry: that holds it.
        name: its true name.
    """
    make = EXAMPLES.get(registry.kind)
    return None if make is None else make(registry, name)


def search_example(space: str, algo: str, flags: Mapping[str, Any]) -> Example:
    """Return how ``raynas.search`` is called.

    Args:
        space: registered.
        algo: registered.
        flags: further arguments, by the name that they have in Python. A dict of options becomes
            key=value, one of objectives METRIC:max.
    """
    given = "".join(f", {key}={value!r}" for key, value in flags.items())
    words = ["raynas", "search", space, "--algo", algo]
    for key, value in flags.items():
        flag = "--" + key.removesuffix("s").replace("_", "-")
        if key == "objectives":
            words += [word for pair in value.items() for word in (flag, ":".join(pair))]
        elif isinstance(value, dict):
            words += [word for pair in value.items() for word in (flag, "=".join(pair))]
        else:
            words += ["--trials" if key == "trials" else f"--{key}", str(value)]
    return Example(f"raynas.search({space!r}, {algo!r}{given})", shlex.join(words))


def _sampler(registry: Registry[Any], name: str) -> Example:
    several = registry.class_of(name).multi_objective  # type: ignore[attr-defined]
    goals = {"objectives": {"accuracy": "max", "macs": "min"}} if several else {}
    return search_example(SMALL, name, {"trials": 50} | goals)


def _one_shot(registry: Registry[Any], name: str) -> Example:
    from raynas.gradient.base import Differentiable
    from raynas.nn.modelspace import SPACES

    cls: Any = registry.class_of(name)
    space = OF_CHOICES if issubclass(cls, Differentiable) else SMALL
    space = name if name in list(SPACES) else space
    if cls.learns:
        return search_example(space, name, {"epochs": 20})
    return Example(
        f"raynas.train_supernet({space!r}, {name!r}, epochs=20)",
        f"raynas train-supernet {space} --algo {name} --epochs 20",
    )


def _space(_: Registry[Any], name: str) -> Example:
    return Example(f"raynas.space({name!r}).arch_space", f"raynas profile {name}")


def _operator(registry: Registry[Any], name: str) -> Example:
    python = f"raynas.nn.operators.OPERATORS[{name!r}](16, 16, 1)"
    try:
        registry[name](16, 24, 2)
    except ValueError:  # it changes neither channels nor resolution, as a chain's candidates must
        return Example(python)
    names = ", ".join(dict.fromkeys(("MB3E3", name)))
    return Example(
        python, f"raynas profile mobilenet_v2_cifar --space-option 'candidates=[{names}]'"
    )


def _graph_operator(_: Registry[Any], name: str) -> Example:
    names = ", ".join(dict.fromkeys(("skip", "conv1x1", name)))
    return Example(
        f"raynas.nn.graph.GRAPH_OPERATORS[{name!r}](16)",
        f"raynas profile gcn --space-option 'candidates=[{names}]'",
    )


def _mixed(_: Registry[Any], name: str) -> Example:
    if name == "index":  # has no gradient, so that no algorithm mixes by it
        return Example(f"raynas.gradient.mixed.MIXED_OPS[{name!r}]()")
    return search_example(OF_CHOICES, "direct_grad", {"epochs": 20, "options": {"mixed_op": name}})


def _constructor(registry: Registry[Any], name: str) -> Example:
    options = {"op": "NC3", "candidates": ["NC3", "NC5"], "arch_desc": "best.json"}
    known = options_of(registry[name])
    own = {key: value for key, value in options.items() if key in _required(known)}
    return Example(f"raynas.nn.construct.construct(model, [({name!r}, {own!r})])")


def _exporter(_: Registry[Any], name: str) -> Example:
    return Example(f"raynas.nn.export.export(model, arch, {name!r})")


def _evaluator(registry: Registry[Any], name: str) -> Example:
    evaluator: Any = registry[name]
    own = {key: PLACES[key] for key in _required(options_of(evaluator)) if key in PLACES}
    flags = "".join(f" --evaluator-option {key}={value}" for key, value in own.items())
    goals = ""
    if hasattr(evaluator, "metrics"):  # others give what the task goes by
        metric = evaluator.metrics[0]
        goal = "min" if metric in COSTS else "max"
        goals = f", objectives={ ({metric: goal})!r}"
        flags += f" --objective {metric}:{goal}"
    given = repr((name, own)) if own else repr(name)
    return Example(
        f"raynas.search({SMALL!r}, 'random', evaluator={given}{goals}, trials=50)",
        f"raynas search {SMALL} --algo random --evaluator {name}{flags} --trials 50",
    )


def _data(registry: Registry[Any], name: str) -> Example:
    from raynas.data.module import DataModule

    known = _required(options_of(registry[name]))
    own = {key: PLACES[key] for key in known if key in PLACES}
    flags = {"data": name, "trials": 50} | ({"data_options": own} if own else {})
    cls = registry.class_of(name)
    if not issubclass(cls, DataModule) or cls.task.name == "classification":
        return search_example(SMALL, "random", flags)
    _, command = search_example("my_module:Net", "random", flags)
    return Example(search_example("Net", "random", flags).python.replace("'Net'", "Net"), command)


def _task(_: Registry[Any], name: str) -> Example:
    return Example(
        f"raynas.search(Net, 'random', data=(train, valid), task={name!r})",
        f"raynas search my_module:Net --algo random --data DATA --task {name}",
    )


def _tracker(_: Registry[Any], name: str) -> Example:
    return search_example(SMALL, "random", {"trials": 50, "track": name})


def _required(options: Mapping[str, Any]) -> list[str]:
    return [name for name, option in options.items() if option.default is REQUIRED]


EXAMPLES: dict[str, Callable[[Registry[Any], str], Example]] = {
    "algorithm": _sampler,
    "one-shot algorithm": _one_shot,
    "search space": _space,
    "operator": _operator,
    "graph operator": _graph_operator,
    "mixed operator": _mixed,
    "constructor": _constructor,
    "exporter": _exporter,
    "evaluator": _evaluator,
    "data set": _data,
    "task": _task,
    "tracker": _tracker,
}
