"""How a run measures: what each kind of evaluator needs before the first architecture."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec, TrainSettings
from raynas.core.errors import nearest
from raynas.core.evaluator import EVALUATORS, RESERVED
from raynas.core.metrics import COSTS, LATENCY
from raynas.core.options import options_of
from raynas.evaluators.shared import Shared
from raynas.setup import resolve
from raynas.setup.plans import FUNCTION, SHARED, FunctionPlan, NetworkPlan, Plan, SharedPlan
from raynas.storage.run_folder import SUPERNET, Folder, absolute, local_copy

if TYPE_CHECKING:
    from torch import Tensor

    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace

METHODS = ("bind", "measure", "train_epochs")  # one of which an evaluator that is an object has


def plan(
    evaluator: Any,
    space: resolve.Space,
    module: DataModule | None,
    data: ComponentSpec | None,
    *,
    supernet: Any,
    epochs: int | None,
    objectives: Sequence[str],
    several: bool = False,
) -> Plan:
    """Return the plan for an evaluator, with all that can be checked beforehand checked.

    Args:
        evaluator: a registered name, alone or with options as ``Registry.build`` takes them, an
            object of ``raynas.evaluators.protocols``, or a function.
        space: of the architectures.
        module: the data.
        data: how the run folder names them.
        supernet: as for ``raynas.search``.
        epochs: likewise.
        objectives: metrics that must be measured.
        several: whether trials have more than one score.

    Raises:
        ValueError, TypeError, LookupError: the evaluator does not go with the space, the data, or
            the objectives.
    """
    named = isinstance(evaluator, str | tuple | list | Mapping)
    thing, spec = _registered(evaluator, epochs) if named else (evaluator, _own_spec(evaluator))
    if spec.name == SHARED:
        shared = _shared(space, module, data, supernet, epochs, objectives)
        return replace(shared, scoring=thing)
    if supernet is not None:
        raise ValueError(
            f"options of a supernet go with the evaluator {SHARED!r}, not with {_called(spec)}"
        )
    if epochs is not None and not named:
        raise ValueError(
            f"epochs go with the evaluator {SHARED!r}, or another that trains if it is named, not "
            f"with {_called(spec)}"
        )
    if hasattr(thing, "bind"):
        bound = thing.bind(replace(space.arch, violation=None), objectives)  # it travels
        metrics = tuple(getattr(bound, "metrics", objectives))
        _check_objectives(objectives, metrics, spec.name)
        return FunctionPlan(
            function=bound, metrics=metrics, space=space, spec=spec, name=spec.name, data=data
        )
    if hasattr(thing, "measure") or hasattr(thing, "train_epochs"):
        return _network_plan(thing, spec, space, module, data, objectives, several)
    if not callable(thing):
        raise TypeError(
            "evaluator: expected a registered name, a function, or an object with a method bind, "
            f"measure or train_epochs, got a {type(thing).__name__}"
        )
    _check_function(thing, space, objectives)
    return FunctionPlan(
        function=thing, metrics=tuple(objectives), space=space, spec=spec, data=data
    )


def shared_of(evaluator: Any) -> Shared | None:
    """Return how a supernet's weights are to score; None if the evaluator is another."""
    if not isinstance(evaluator, str | tuple | list | Mapping):
        return evaluator if isinstance(evaluator, Shared) else None
    thing, spec = _registered(evaluator, None)
    return thing if spec.name == SHARED else None


def check_shared(objectives: Sequence[str]) -> None:
    """Raise ValueError, naming the nearest, for a metric that shared weights do not give."""
    from raynas.cluster.evaluators import SHARED_METRICS

    _check_objectives(objectives, SHARED_METRICS, SHARED)


def _registered(given: Any, epochs: int | None) -> tuple[Any, ComponentSpec]:
    """Build a registered evaluator; return it, and its name with all of its options."""
    thing = EVALUATORS.build(given)
    word, own = _parts(given)
    name = EVALUATORS.name_of(word)
    if epochs is not None and name != SHARED:  # there they are of the supernet's training
        if own.get("epochs", epochs) != epochs:
            raise ValueError(f"evaluator {name!r}: epochs is {own['epochs']} and {epochs} at once")
        own = {**own, "epochs": epochs}
        thing = EVALUATORS.build([name, own])
    builder = EVALUATORS[name]
    found = {key: option.default for key, option in options_of(builder).items()}
    return thing, ComponentSpec(
        name=name, options=found | own | resolve.own_options(builder, thing)
    )


def _parts(given: Any) -> tuple[str, dict[str, Any]]:
    """Return name and options of what ``Registry.build`` has taken."""
    if isinstance(given, str):
        return given, {}
    if isinstance(given, Mapping):
        return given["type"], dict(given.get("args", {}))
    return given[0], dict(given[1])


def _own_spec(thing: Any) -> ComponentSpec:
    """Return how the run folder names an object: a registered one, or a user's own."""
    if isinstance(thing, Shared):
        return ComponentSpec(name=SHARED)
    own = ComponentSpec(name=FUNCTION, options={"path": resolve.import_path(thing)})
    if not any(hasattr(thing, method) for method in METHODS):
        return own
    if inspect.isclass(thing):
        raise TypeError(f"evaluator: expected an object, got the class {thing.__name__}: call it")
    for name, builder in EVALUATORS.items():
        if builder is type(thing):
            return ComponentSpec(name=name, options=resolve.own_options(builder, thing))
    options = resolve.own_options(type(thing), thing)
    plain = {key: value for key, value in options.items() if _is_plain(value)}
    return ComponentSpec(name=FUNCTION, options=own.options | plain)


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _called(spec: ComponentSpec) -> str:
    return "a function" if spec.name == FUNCTION else repr(spec.name)


def _shared(
    space: resolve.Space,
    module: DataModule | None,
    data: ComponentSpec | None,
    supernet: Any,
    epochs: int | None,
    objectives: Sequence[str],
) -> SharedPlan:
    if space.model is None or module is None:
        raise ValueError(
            "an ArchSpace has no weights to share: pass evaluator=, a function from Arch to a dict "
            "of metrics"
        )
    check_shared(objectives)
    if isinstance(supernet, str | Path):
        return _trained(space, module, data, absolute(str(supernet)), epochs)
    options = dict(supernet) if isinstance(supernet, Mapping) else {}
    algo = "spos" if supernet is None or isinstance(supernet, Mapping) else supernet
    named, settings = resolve.resolve_one_shot(algo, options, epochs)
    return training_plan(space, module, data, named, settings)


def _network_plan(
    thing: Any,
    spec: ComponentSpec,
    space: resolve.Space,
    module: DataModule | None,
    data: ComponentSpec | None,
    objectives: Sequence[str],
    several: bool,
) -> NetworkPlan:
    name = _called(spec)
    if space.model is None or module is None:
        raise ValueError(f"the evaluator {name} measures networks, and an ArchSpace builds none")
    known = getattr(thing, "metrics", None)
    metrics = tuple(dict.fromkeys((*COSTS, *(objectives if known is None else known))))
    _check_objectives(objectives, metrics, spec.name)
    stopping = getattr(thing, "stopping", None)
    if stopping is not None and several:
        raise ValueError(
            f"the evaluator {name} stops weak architectures early by one score, and there are "
            "several objectives: turn it off (early_stopping=False), or merge them (scalarize=)"
        )
    resolve.check_fit(space.model, module)
    return NetworkPlan(
        thing=thing,
        metrics=metrics,
        space=space,
        module=module,
        data=data,
        spec=spec,
        epochs=thing.epochs if hasattr(thing, "train_epochs") else 0,
        stopping=stopping,
    )


def training_plan(
    space: resolve.Space,
    module: DataModule,
    data: ComponentSpec | None,
    algo: ComponentSpec,
    settings: TrainSettings,
) -> SharedPlan:
    """Return the plan that trains a supernet first.

    Raises:
        ValueError: the space has no weights, the data do not fit it, they are in memory and fewer
            than a batch, or the algorithm would warm up until the end.
        InvalidSpace: the algorithm cannot make a supernet of the space.
    """
    if space.model is None:
        raise ValueError("an ArchSpace has no weights to train")
    resolve.check_fit(space.model, module)
    _check_batch(settings.batch_size, module)
    _check_warmup(algo, settings.epochs)
    spec = ComponentSpec(name=algo.name, options=algo.options | settings.model_dump())
    return SharedPlan(
        space=space,
        supernets=resolve.supernet_space(space.model, algo),
        module=module,
        data=data,
        supernet=spec,
        algo=algo,
        settings=settings,
    )


def _check_warmup(algo: ComponentSpec, epochs: int) -> None:
    """Raise ValueError if an algorithm that learns architectures has no epoch left to do so."""
    warmup = getattr(resolve.one_shot(algo), "warmup_epochs", 0)
    if warmup >= epochs:
        raise ValueError(
            f"{algo.name} learns nothing about architectures in its first {warmup} epochs, and "
            f"there are {epochs} in all: use more (epochs={2 * warmup}), or a smaller warmup_epochs"
        )


def _trained(
    space: resolve.Space,
    module: DataModule,
    data: ComponentSpec | None,
    path: str,
    epochs: int | None,
) -> SharedPlan:
    from raynas.supernet.checkpoint import find_checkpoint, load_weights

    assert space.model is not None
    resolve.check_fit(space.model, module)
    if epochs is not None:
        raise ValueError("epochs are for training a supernet, and a trained one is given")
    checkpoint = find_checkpoint(local_copy(path))
    supernets = resolve.trained_space(space.model, checkpoint)
    _check_weights(supernets, load_weights(checkpoint), path)
    found = ComponentSpec(name="checkpoint", options={"path": path})
    return SharedPlan(
        space=space,
        supernets=supernets,
        module=module,
        data=data,
        supernet=found,
        algo=None,
        settings=TrainSettings(),
    )


def _check_batch(size: int | None, data: DataModule) -> None:
    """Check what can be without reading files; the rest is seen when the data are loaded."""
    from raynas.data.module import TensorData

    count = len(data.load().train[1]) if isinstance(data, TensorData) else None
    if count is not None and size is not None and size > count:
        raise ValueError(f"batch_size {size} is larger than the {count} training examples")


def claim_supernet(out: str, resume: bool) -> None:
    """Raise FileExistsError if ``out`` holds a supernet and it is not to be gone on with."""
    if Folder(out).has(SUPERNET) and not resume:
        raise FileExistsError(
            f"{out} holds a supernet: go on with it (resume=True) or choose another folder (out=)"
        )


def _check_weights(model: ModelSpace, weights: Mapping[str, Tensor], path: str) -> None:
    wanted = {name: tuple(t.shape) for name, t in model.skeleton().state_dict().items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"the supernet in {path} is not one of {model.name} as it is asked for: {name!r} "
                f"has shape {found.get(name, 'none')} there, {wanted.get(name, 'none')} here"
            )


def _check_function(
    function: Callable[..., object], space: resolve.Space, objectives: Sequence[str]
) -> None:
    from raynas.cluster.evaluators import wants_module

    if space.model is None and wants_module(function):
        raise ValueError("the evaluator wants a module, and an ArchSpace builds none")
    for metric in objectives:
        if metric in RESERVED:
            raise ValueError(f"objective {metric!r} is named like a column of the trial table")


def _check_objectives(objectives: Sequence[str], metrics: Sequence[str], name: str) -> None:
    for metric in objectives:
        if metric not in metrics:
            hint = nearest(metric, dict.fromkeys((*metrics, LATENCY)))
            raise ValueError(f"the evaluator {name!r} gives no metric {metric!r}; {hint}")
