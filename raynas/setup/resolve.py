"""From what a user gives (names, objects, options) to the parts that a run is made of."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, TrainSettings, validated
from raynas.core.errors import InvalidSpace, UnknownName, nearest
from raynas.core.goals import Goals
from raynas.core.options import checked, options_of
from raynas.core.registry import Registry
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.spacejson import from_plain, to_plain

if TYPE_CHECKING:
    from raynas.data.module import DataModule
    from raynas.nn.modelspace import ModelSpace
    from raynas.supernet.protocol import OneShot

PLAIN_SPACE = "ArchSpace"
OWN = "own"
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """A search space with how the run folder names it; ``model`` is None for a plain ArchSpace."""

    spec: ComponentSpec
    arch: ArchSpace
    model: ModelSpace | None


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


def resolve_space(space: Any, options: Options, data: DataModule | None) -> Space:
    """Return the space behind a name, a ModelSpace, an ArchSpace, or a class or factory of modules.

    A registered space is built for the data: its classes, channels and resolution.

    Raises:
        TypeError: ``space`` is none of these, or options are given for what has none.
    """
    from raynas.nn.modelspace import SPACES, ModelSpace

    if isinstance(space, str):
        model, spec = build(SPACES, space, options, **_facts(data))
        return Space(spec, model.arch_space, model)
    if options:
        raise TypeError("space options go with a registered space's name; configure the object")
    if isinstance(space, ArchSpace):
        plain = {"choices": to_plain(space)}
        return Space(ComponentSpec(name=PLAIN_SPACE, options=plain), space, None)
    if isinstance(space, ModelSpace):
        spec = space.spec or ComponentSpec(name=import_path(space.factory))
        return Space(spec, space.arch_space, _with_shape(space, data))
    if callable(space) and not _is_module(space):
        model = _with_shape(ModelSpace(space), data)
        return Space(ComponentSpec(name=import_path(space)), model.arch_space, model)
    raise TypeError(
        "space: expected a registered name, an ArchSpace, a ModelSpace, or a class or function "
        f"that builds an nn.Module with choices, got {type(space).__name__}"
        + (": pass its class, or lambda: model" if _is_module(space) else "")
    )


def _is_module(thing: object) -> bool:
    from torch import nn

    return isinstance(thing, nn.Module)


def rebuild_space(spec: ComponentSpec, data: DataModule | None) -> Space:
    """Return the space that a run folder names.

    Raises:
        LookupError: it was a user's own and cannot be imported here.
    """
    if spec.name == PLAIN_SPACE:
        space = from_plain(spec.options["choices"])
        return Space(spec, space, None)
    if ":" not in spec.name:
        return resolve_space(spec.name, spec.options, None)  # the options hold all that data gave
    try:
        own = imported(spec.name)
    except LookupError as error:
        raise LookupError(
            f"the space of this run was a user's own: {error}; pass raynas.load(path, space=...)"
        ) from error
    return resolve_space(own, {}, data)


def _facts(data: DataModule | None) -> dict[str, Any]:
    if data is None:
        return {}
    shape = data.input_shape
    facts: dict[str, Any] = {"num_classes": data.num_classes, "in_channels": shape[0]}
    return facts | ({"resolution": shape[-1]} if len(shape) == 3 else {})


def _with_shape(space: ModelSpace, data: DataModule | None) -> ModelSpace:
    if data is None or space.input_shape is not None:
        return space
    shaped = copy.copy(space)
    shaped.input_shape = data.input_shape
    return shaped


def resolve_data(data: Any, options: Options) -> tuple[ComponentSpec, DataModule]:
    """Return the data behind a name, a DataModule, or a tuple of datasets."""
    from raynas.data.module import DATA, DataModule, TensorData

    if isinstance(data, str):
        module, spec = build(DATA, data, options)
        return spec, module
    if options:
        raise TypeError("data options go with a registered name; configure the object instead")
    if isinstance(data, DataModule):
        builder = DATA.get(data.name)
        if type(data) in (builder, getattr(builder, "func", None)):
            return ComponentSpec(name=data.name, options=own_options(type(data), data)), data
        return ComponentSpec(name=OWN), data
    if isinstance(data, tuple | list):
        return ComponentSpec(name=OWN), TensorData(data)
    raise TypeError(
        "data: expected a registered name, a (train, valid[, test]) tuple of datasets, or a "
        f"DataModule, got {type(data).__name__}"
    )


def rebuild_data(spec: ComponentSpec | None) -> DataModule | None:
    """Return the data that a run folder names; None if it was a user's own."""
    from raynas.data.module import DATA

    if spec is None or spec.name not in DATA:
        return None
    return resolve_data(spec.name, spec.options)[1]


def name_of(algo: Any) -> str:
    """Return an algorithm's registered name.

    Raises:
        UnknownName: no algorithm has this name.
        TypeError: neither a name nor a configured one-shot algorithm.
    """
    if isinstance(algo, str) and algo in SAMPLERS:
        return SAMPLERS.name_of(algo)
    from raynas.supernet.protocol import ONE_SHOTS

    if isinstance(algo, str):
        if algo not in ONE_SHOTS:
            hint = nearest(algo, [*SAMPLERS, *ONE_SHOTS])
            raise UnknownName(f"no algorithm named {algo!r}; {hint}")
        return ONE_SHOTS.name_of(algo)
    for name, cls in ONE_SHOTS.items():
        if cls is type(algo):
            return name
    raise TypeError(
        "algo: expected a registered name or a configured one-shot algorithm, got a "
        f"{type(algo).__name__}"
    )


def resolve_sampler(
    name: Any, space: ArchSpace, seed: int, options: Options, *, goals: Goals | None = None
) -> Sampler:
    """Return a fresh sampler; one that takes several objectives is told their names.

    Raises:
        UnknownName: no algorithm has this name.
        ValueError: the algorithm trains a supernet instead of sampling, or an option is wrong.
    """
    if trains(name):
        raise ValueError(
            f"{name} trains a supernet and proposes no architectures one by one: call "
            "raynas.search or raynas.train_supernet with it"
        )
    builder = SAMPLERS[name_of(name)]
    fitted = checked("algorithm", name, builder, options, without=("seed",))
    if goals is not None and goals.several and getattr(builder, "multi_objective", False):
        fitted["objectives"] = tuple(objective.metric for objective in goals.objectives)
    return builder(space, seed=seed, **fitted)


def trains(algo: Any) -> bool:
    """Return whether an algorithm, by name or configured, finds its architecture by training."""
    if isinstance(algo, str) and algo in SAMPLERS:
        return False
    from raynas.supernet.protocol import ONE_SHOTS

    return algo in ONE_SHOTS if isinstance(algo, str) else type(algo) in ONE_SHOTS.values()


def resolve_one_shot(
    algo: Any, options: Options, epochs: int | None
) -> tuple[ComponentSpec, TrainSettings]:
    """Split a supernet's options into the algorithm's and the training's.

    Args:
        algo: a registered one-shot algorithm's name, or a configured object of one.
        options: of either kind, mixed.
        epochs: overrides the training's.
    """
    from raynas.supernet.protocol import ONE_SHOTS

    if not isinstance(algo, str):
        names = [name for name, cls in ONE_SHOTS.items() if cls is type(algo)]
        if not names:
            raise TypeError(f"expected a one-shot algorithm, got {type(algo).__name__}")
        options = own_options(type(algo), algo, without=("seed",)) | dict(options)
        algo = names[0]
    algo = ONE_SHOTS.name_of(algo)
    builder = ONE_SHOTS[algo]
    ours = dict(getattr(builder, "defaults", {}))  # what its paper trains weights with
    ours |= {k: v for k, v in options.items() if k in TrainSettings.model_fields}
    if epochs is not None:
        ours["epochs"] = epochs
    others = {k: v for k, v in options.items() if k not in ours}
    known = options_of(builder, without=("seed",))
    for key in others:
        if key not in known:
            hint = nearest(key, [*known, *TrainSettings.model_fields])
            raise ValueError(f"algorithm {algo!r} has no option {key!r}; {hint}")
    fitted = checked("algorithm", algo, builder, others, without=("seed",))
    builder(seed=0, **fitted)  # its own checks, before anything starts
    return ComponentSpec(name=algo, options=fitted), validated(TrainSettings, ours)


def supernet_space(space: ModelSpace, algo: ComponentSpec) -> ModelSpace:
    """Return the space whose supernets a one-shot algorithm trains: most often the given one.

    Args:
        space: of the architectures.
        algo: the algorithm; one that is not registered here is taken to train the space's own.

    Raises:
        InvalidSpace: the algorithm cannot make a supernet of the space.
    """
    own = getattr(one_shot(algo), "supernet_space", None)
    found: ModelSpace = space if own is None else own(space)
    return found


def one_shot(algo: ComponentSpec) -> OneShot | None:
    """Return a one-shot algorithm, to ask what its options mean; None if it is not registered."""
    from raynas.supernet.protocol import ONE_SHOTS

    return ONE_SHOTS[algo.name](seed=0, **algo.options) if algo.name in ONE_SHOTS else None


def trained_space(space: ModelSpace, checkpoint: Path) -> ModelSpace:
    """Return the space that a checkpoint's weights are of (see ``supernet_space``).

    Args:
        space: of the architectures.
        checkpoint: says which algorithm left it.
    """
    from raynas.supernet.checkpoint import load_about

    algo = load_about(checkpoint).get("algo")
    return space if algo is None else supernet_space(space, ComponentSpec(**algo))


def own_options(
    cls: Callable[..., Any], thing: object, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a configured object's options, which it keeps as attributes of the same names."""
    known = options_of(cls, without=without)
    return {key: getattr(thing, key) for key in known if hasattr(thing, key)}


def import_path(thing: Any) -> str:
    """Return ``module:name`` of a class or function; ``name`` may not be importable."""
    inner = inspect.unwrap(thing)
    name = getattr(inner, "__qualname__", type(inner).__name__)
    return f"{getattr(inner, '__module__', '?')}:{name}"


def imported(path: str) -> Any:
    """Return the object behind ``module:name``.

    Raises:
        LookupError: there is none; the message says why, or names the nearest.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise LookupError(f"{module} cannot be imported: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise LookupError(f"{module} has no {name!r}; {nearest(part, vars(found))}")
        found = getattr(found, part)
    return found


def check_fit(model: ModelSpace, data: DataModule) -> None:
    """Run one example through the supernet, so that what does not fit is said before training.

    Raises:
        ValueError: the model or one of its candidates refuses the data's shape, candidates give
            different shapes, or there are not enough outputs for the classes.
    """
    import torch

    from raynas.costs.cost_table import CostTable
    from raynas.nn.mutable import activate

    shape = data.input_shape
    net = model.supernet().eval()
    try:
        # runs every candidate, and names the one that does not fit
        CostTable(net, torch.zeros(1, *shape))
        activate(net, model.arch_space.sample(np.random.default_rng(0)))
        with torch.no_grad():
            out = net(torch.zeros(2, *shape))
    except InvalidSpace:
        raise
    except Exception as error:
        raise ValueError(
            f"{model.name} does not take {data.name}'s inputs of shape {tuple(shape)}: {error}"
        ) from error
    given = tuple(getattr(out, "shape", ()))
    if len(given) != 2 or given[1] < data.num_classes:
        raise ValueError(
            f"{model.name} returns shape {given} for 2 examples, expected (2, {data.num_classes}): "
            f"one logit for each class of {data.name}"
        )


def mapping(name: str, given: Any) -> dict[str, Any]:
    """Return what was given as a dict, empty for None; raise TypeError if it is none."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name}: expected a dict, got {given!r}")
    return dict(given or {})
