"""The algorithms of a pipeline's steps, judged before the first of them starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.core.archspace import ArchSpace
from raynas.core.build_sampler import sampler_options
from raynas.core.pipeline import PipelineConfig
from raynas.core.sampler import sampler_class
from raynas.setup.algorithms import name_of, resolve_one_shot, resolve_sampler, trains
from raynas.setup.pipeline import arguments, told_where
from raynas.setup.request import DEFAULT_ALGO
from raynas.setup.supernet_request import ALGO, DEFAULT_TRAINING, phases_of

OURS = "raynas.algorithms."
ANY_SPACE = ArchSpace.of(either=(0, 1))  # what our samplers refuse of their options is of no space
WARM_START = "warm_start"  # of a run that a step before it may leave


def check_algorithms(config: PipelineConfig) -> None:
    """Raise if an algorithm of a step is not known, or has not the options that the step says.

    A sampler of the user's own, which may judge by the space, is held to names and types only.

    Args:
        config: whose steps have not begun.

    Raises:
        ValueError, TypeError, LookupError: the sentence begins with the place of the step.
    """
    for number, step in enumerate(config.steps):
        with told_where(number, step):
            own = arguments(config, step)  # imports a space, which may register an algorithm
            if step.kind == "search":
                _check_search(own)
            elif step.kind == "supernet":
                _check_phases(own[ALGO], own.get("options"), own.get("epochs"))


def _check_search(own: Mapping[str, Any]) -> None:
    algo, options = own.get(ALGO, DEFAULT_ALGO), own.get("options") or {}
    if trains(algo):
        resolve_one_shot(algo, options, own.get("epochs"))
    else:
        _check_sampler(algo, options)
    supernet = own.get("supernet")
    if not isinstance(supernet, str):  # a path
        _check_phases(phases_of(supernet), None, None)


def _check_sampler(algo: str, options: Mapping[str, Any]) -> None:
    name = name_of(algo)
    fitted = sampler_options(algo, options)
    fitted.pop(WARM_START, None)
    if sampler_class(name).__module__.startswith(OURS):
        resolve_sampler(name, ANY_SPACE, 0, fitted)


def _check_phases(given: Any, options: Mapping[str, Any] | None, epochs: int | None) -> None:
    """Raise if a training's algorithm, or one of several phases', has not its options."""
    if isinstance(given, str):
        resolve_one_shot(given, options or {}, epochs)
        return
    for phase in given:
        if isinstance(phase, Mapping):
            own = {key: value for key, value in phase.items() if key != ALGO}
            resolve_one_shot(phase.get(ALGO, DEFAULT_TRAINING), own, None)
