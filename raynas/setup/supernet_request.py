"""The supernet that a user asks for: trained elsewhere, to be trained, in one phase or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.core.train_settings import TrainSettings
from raynas.setup.algorithms import one_shot, resolve_one_shot, supernet_space, trained_space
from raynas.setup.fit import check_batch, check_fit, check_smoothing
from raynas.setup.mixed_operator import asked_for, check_mixed_op, explained
from raynas.setup.problem import Data, Space
from raynas.setup.supernets import AS_BUILT, PHASE, START, Supernet, Training
from raynas.storage.local_copies import local_checkpoint
from raynas.storage.run_folder import absolute

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace

NO_WEIGHTS = "an ArchSpace has no weights to train"
DEFAULT_TRAINING, ALGO = "spos", "algo"


def supernet_of(given: Any, space: Space, data: Data | None, epochs: int | None) -> Supernet:
    """Return the supernet that ``raynas.search(supernet=...)`` asks for.

    Args:
        given: the path of a trained one; options of a training, its algorithm under ``algo``
            (``spos`` where it is not named); a configured algorithm; a list of such, each of which
            trains on from the one before; or None. With 0 epochs, a model's own weights.
        space: of the architectures.
        data: that it is trained on.
        epochs: of its training; in a list, of each that does not say its own.

    Raises:
        ValueError, LookupError, TypeError: it does not go with the space or the data, or an option
            is wrong.
    """
    if isinstance(given, list | tuple):
        return _chain(given, space, data, epochs)
    if isinstance(given, str | Path):
        return _trained_elsewhere(space, data, absolute(str(given)), epochs)
    if _trains_nothing(given, epochs):
        return _as_built(given, space, data)
    if not isinstance(given, ComponentSpec):
        return supernet_to_train(*_algorithm(given), space, data, epochs)
    options = dict(given.options)  # as a run folder names it
    if "path" in options:
        return _trained_elsewhere(space, data, options["path"], epochs)
    begun = options.pop(START, None)
    start = phase_of(None if begun is None else ComponentSpec(**begun), space, data)
    return supernet_to_train(given.name, options, space, data, epochs, start=start)


def _trains_nothing(given: Any, epochs: int | None) -> bool:
    """Return whether the weights that a model has are to be searched as they are."""
    if isinstance(given, ComponentSpec):
        return given.name == AS_BUILT
    own = given.get("epochs") if isinstance(given, Mapping) else None
    return (given is None or isinstance(given, Mapping)) and 0 in (own, epochs)


def _as_built(given: Any, space: Space, data: Data | None) -> Supernet:
    """Return the supernet of a model's own weights.

    Raises:
        ValueError: the space's weights are not trained, or options of a training are given.
    """
    if space.model_space is None or data is None:
        raise ValueError(NO_WEIGHTS)
    if not space.model_space.trained:
        raise ValueError(
            f"epochs=0 searches weights as they are, and those of {space.spec.name} are not "
            "trained: only a model that exists (raynas.elastic) has such"
        )
    options = dict(given) if isinstance(given, Mapping) else {}
    if left := sorted(options.keys() - {"epochs"}):
        raise ValueError(f"supernet: epochs=0 trains nothing, so leave out {', '.join(left)}")
    check_fit(space.model_space, data.module, trains=False)
    spec = ComponentSpec(name=AS_BUILT, options={})
    return Supernet(spec=spec, space=space, model_space=space.model_space, training=None)


def _algorithm(given: Any) -> tuple[Any, dict[str, Any]]:
    """Return the algorithm and the options of a training."""
    if isinstance(given, Mapping):
        options = {key: value for key, value in given.items() if key != ALGO}
        return given.get(ALGO, DEFAULT_TRAINING), options
    return DEFAULT_TRAINING if given is None else given, {}


def _chain(phases: Sequence[Any], space: Space, data: Data | None, epochs: int | None) -> Supernet:
    """Return the supernet of several trainings, one after the other."""
    if not phases:
        raise ValueError("supernet: expected at least one phase, got an empty list")
    start: Supernet | None = None
    for number, phase in enumerate(phases, 1):
        if _is_path(phase) and number == 1:
            start = _trained_elsewhere(space, data, absolute(str(phase)), None)
            continue
        given = {ALGO: phase} if isinstance(phase, str) else phase
        algo, options = _algorithm(given)
        own = epochs if options.get("epochs") is None else None  # a phase's own come first
        try:
            trained = supernet_to_train(algo, options, space, data, own, start=start)
        except (ValueError, TypeError) as error:
            raise type(error)(f"supernet[{number - 1}]: {error}") from error
        start = trained if number == len(phases) else _as_phase(trained, _number(trained))
    assert start is not None
    return start


def _is_path(phase: Any) -> bool:
    """Return whether a phase is a supernet that was trained elsewhere."""
    from raynas.supernet.protocol import ONE_SHOTS

    return isinstance(phase, Path) or (isinstance(phase, str) and phase not in ONE_SHOTS)


def _as_phase(supernet: Supernet, number: int) -> Supernet:
    """Return a supernet that another training begins with, in a folder of its own."""
    return replace(supernet, folder=f"{PHASE}{number}")


def resolve_training(
    algo: Any,
    options: Mapping[str, Any],
    space: Space,
    data: Data | None,
    epochs: int | None,
    *,
    begun: Any = None,
) -> Supernet:
    """Return the supernet that ``raynas.train_supernet`` is to train.

    Args:
        algo: a one-shot algorithm, or a list of phases, as ``supernet_of`` reads it.
        options: of one algorithm and its training.
        space: of the architectures.
        data: that it is trained on.
        epochs: of one algorithm's training.
        begun: what it begins with, as ``supernet_of`` reads it.

    Raises:
        ValueError, LookupError, TypeError: as ``supernet_of``; or options with several phases.
    """
    if not isinstance(algo, list | tuple):
        start = phase_of(begun, space, data)
        return supernet_to_train(algo, options, space, data, epochs, start=start)
    if options:
        raise ValueError("options: several phases have their own, each in its dict")
    return supernet_of([*phases_of(begun), *algo], space, data, epochs)


def phases_of(given: Any) -> list[Any]:
    """Return the trainings of a supernet as a list, whatever form it is given in."""
    if isinstance(given, list | tuple):
        return [*given]
    return [] if given is None else [given]


def phase_of(given: Any, space: Space, data: Data | None) -> Supernet | None:
    """Return what another training of the run begins with; None, as nothing, is new weights."""
    if given is None:
        return None
    start = supernet_of(given, space, data, None)
    return _as_phase(start, _number(start))


def _number(supernet: Supernet | None) -> int:
    """Return how many trainings of a run a supernet takes."""
    if supernet is None or supernet.training is None:
        return 0
    return 1 + _number(supernet.training.start)


def supernet_to_train(
    algo: Any,
    options: Mapping[str, Any],
    space: Space,
    data: Data | None,
    epochs: int | None,
    *,
    start: Supernet | None = None,
) -> Supernet:
    """Return the supernet that a one-shot algorithm is to train.

    Args:
        algo: a registered name, or a configured algorithm.
        options: of the algorithm and of its training.
        space: of the architectures.
        data: that it is trained on.
        epochs: of its training.
        start: whose weights it begins with; None begins with new ones.

    Raises:
        ValueError: the space has no weights, the data do not fit it, they are in memory and fewer
            than a batch, an option is wrong, the algorithm would warm up until the end, or it has
            another supernet than the one that it is to begin with.
        InvalidSpace: the algorithm cannot make a supernet of the space.
    """
    from raynas.supernet.rebuilding import check_rebuilding

    spec, settings = resolve_one_shot(algo, options, epochs)
    if space.model_space is None or data is None:
        raise ValueError(NO_WEIGHTS)
    if not isinstance(algo, str | ComponentSpec):  # configured, with all that it has
        options = {**spec.options, **options}
    if asked := asked_for(space.model_space, spec, options):
        with explained(space.model_space, spec.name):
            spec, settings = resolve_one_shot(algo, {**options, **asked}, epochs)
    _check_settings(settings, options, data)
    if not data.module.task.smooths:  # the run folder says what was done
        settings = settings.model_copy(update={"label_smoothing": 0.0})
    check_fit(space.model_space, data.module)
    check_batch(settings.batch_size, data.module)
    _check_warmup(spec, settings.epochs)
    model_space = supernet_space(space.model_space, spec)
    check_rebuilding(model_space, data.module.signature)
    configured = one_shot(spec)
    if configured is not None:
        check_mixed_op(space.model_space, spec.name, configured.mixed_ops)
        configured.check_settings(settings)
        configured.check(model_space.supernet(), model_space.example_input(2))
    began: dict[str, Any] = {}
    if start is not None:
        _check_start(start, model_space)
        began = {START: start.spec.model_dump()}
    return Supernet(
        spec=ComponentSpec(name=spec.name, options=spec.options | settings.model_dump() | began),
        space=space,
        model_space=model_space,
        training=Training(algo=spec, settings=settings, data=data, start=start),
    )


def _check_start(start: Supernet, model_space: ModelSpace) -> None:
    """Raise ValueError if a supernet's weights are not those of a space that goes on with them."""
    if start.model_space is not model_space:
        ours, theirs = model_space.weight_shapes(), start.model_space.weight_shapes()
        if ours != theirs:
            raise ValueError(
                f"the weights to begin with are of another supernet ({start.spec.name}): shapes "
                "differ; begin with new ones"
            )


def _check_settings(settings: TrainSettings, options: Mapping[str, Any], data: Data) -> None:
    """Raise ValueError for an option of the training that would have no effect."""
    if settings.drop_path:
        raise ValueError("drop_path is of networks trained alone, not of supernets: leave it out")
    check_smoothing(options, data.module)


def _check_warmup(algo: ComponentSpec, epochs: int) -> None:
    """Raise ValueError if an algorithm that learns architectures has no epoch left to do so."""
    configured = one_shot(algo)
    warmup = 0 if configured is None else configured.warmup_epochs
    if warmup >= epochs:
        raise ValueError(
            f"{algo.name} learns nothing about architectures in its first {warmup} epochs, and "
            f"there are {epochs} in all: use more (epochs={2 * warmup}), or a smaller warmup_epochs"
        )


def _trained_elsewhere(space: Space, data: Data | None, path: str, epochs: int | None) -> Supernet:
    from raynas.supernet.checkpoint import find_checkpoint
    from raynas.supernet.rebuilding import check_checkpoint

    if space.model_space is None or data is None:
        raise ValueError(NO_WEIGHTS)
    model_space = space.model_space
    check_fit(model_space, data.module, trains=False)
    if epochs is not None:
        raise ValueError("epochs are for training a supernet, and a trained one is given")
    checkpoint = find_checkpoint(local_checkpoint(path))
    trained = trained_space(model_space, checkpoint)
    check_checkpoint(trained, checkpoint, path)
    return Supernet(
        spec=ComponentSpec(name="checkpoint", options={"path": path}),
        space=space,
        model_space=trained,
        training=None,
    )
