"""The algorithm behind a name or an object, and what its options mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.archspace import ArchSpace
from raynas.core.build_sampler import build_sampler
from raynas.core.config import ComponentSpec, validated
from raynas.core.errors import UnknownName, nearest
from raynas.core.goals import Goals
from raynas.core.options import checked, options_of
from raynas.core.registry import nearest_spelling
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.split_spec import split_spec
from raynas.core.train_settings import TrainSettings
from raynas.setup.objects import own_options

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace
    from raynas.supernet.protocol import OneShot

Options = Mapping[str, Any]


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
            both = (SAMPLERS, ONE_SHOTS)
            aliases = [word for known in both for name in known for word in known.aliases_of(name)]
            hint = nearest_spelling(algo, [*SAMPLERS, *ONE_SHOTS], aliases)
            raise UnknownName(f"no algorithm named {algo!r}; {hint}")
        return ONE_SHOTS.name_of(algo)
    for name, cls in ONE_SHOTS.items():
        if cls is type(algo):
            return name
    raise TypeError(
        "algo: expected a registered name or a configured one-shot algorithm, got a "
        f"{type(algo).__name__}"
    )


def spelled_out(algo: Any) -> tuple[Any, Options]:
    """Return an algorithm and the options that are given with it.

    Args:
        algo: a name or a configured one-shot algorithm, which come without; or ``[name, {option:
            value}]``, ``{"type": name, "args": {...}}``, or what ``raynas.registry.optim`` builds.
    """
    if isinstance(algo, ComponentSpec):
        return algo.name, algo.options
    name, options = split_spec(algo)
    return name, options or {}


def own_words(algo: str, options: Options) -> dict[str, Any]:
    """Return options by the algorithm's own names, whatever its alias calls them; none is preset.

    Raises:
        ValueError: a value has no counterpart.
    """
    from raynas.supernet.protocol import ONE_SHOTS

    alias = (SAMPLERS if algo in SAMPLERS else ONE_SHOTS).alias_of(algo)
    return replace(alias, presets={}).options(options, keep=TrainSettings.model_fields)


def resolve_sampler(
    name: Any, space: ArchSpace, seed: int, options: Options, *, goals: Goals | None = None
) -> Sampler:
    """Return a fresh sampler; one that takes several objectives is told their names.

    Raises:
        UnknownName: no algorithm has this name.
        ValueError: the algorithm trains a supernet instead of sampling, or an option is wrong.
        TypeError: a registered function returns no ``Sampler``.
    """
    if trains(name):
        raise ValueError(
            f"{name} trains a supernet and proposes no architectures one by one: call "
            "raynas.search or raynas.train_supernet with it"
        )
    objectives = () if goals is None or not goals.several else goals.objectives
    names = [objective.metric for objective in objectives]
    return build_sampler(name, space, seed=seed, options=options, objectives=names)


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
        algo: a registered one-shot algorithm's name, alone or with options, or a configured object
            of one.
        options: of either kind, mixed.
        epochs: overrides the training's.
    """
    from raynas.supernet.protocol import ONE_SHOTS, one_shot_class

    if isinstance(algo, ComponentSpec):
        algo, options = algo.name, {**algo.options, **options}
    if not isinstance(algo, str):
        names = [name for name, cls in ONE_SHOTS.items() if cls is type(algo)]
        if not names:
            raise TypeError(f"expected a one-shot algorithm, got {type(algo).__name__}")
        options = own_options(type(algo), algo, without=("seed",)) | dict(options)
        algo = names[0]
    options = ONE_SHOTS.options_under(algo, options, keep=TrainSettings.model_fields)
    algo = ONE_SHOTS.name_of(algo)
    builder = ONE_SHOTS[algo]
    training = dict(one_shot_class(algo).defaults)  # what its paper trains weights with
    training |= {k: v for k, v in options.items() if k in TrainSettings.model_fields}
    if epochs is not None:
        training["epochs"] = epochs
    others = {k: v for k, v in options.items() if k not in training}
    declared = options_of(builder, without=("seed",))
    for key in others:
        if key not in declared:
            hint = nearest(key, [*declared, *TrainSettings.model_fields])
            raise ValueError(f"algorithm {algo!r} has no option {key!r}; {hint}")
    fitted = checked("algorithm", algo, builder, others, without=("seed",))
    made: OneShot = ONE_SHOTS.make(algo, seed=0, **fitted)  # its own checks, before anything starts
    if epochs is None and "epochs" not in options and made.own_epochs is not None:
        training["epochs"] = made.own_epochs
    return ComponentSpec(name=algo, options=fitted), validated(TrainSettings, training)


def supernet_space(space: ModelSpace, algo: ComponentSpec) -> ModelSpace:
    """Return the space whose supernets a one-shot algorithm trains: most often the given one.

    Args:
        space: of the architectures.
        algo: the algorithm; one that is not registered here is taken to train the space's own.

    Raises:
        InvalidSpace: the algorithm cannot make a supernet of the space.
    """
    configured = one_shot(algo)
    return space if configured is None else configured.supernet_space(space)


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
