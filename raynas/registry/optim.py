"""Search algorithms by name, with their options, for ``raynas.search(space, algo)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from raynas.core.config import ComponentSpec
from raynas.core.options import checked
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.registry.registering import registered_by
from raynas.setup.algorithms import name_of, resolve_one_shot, spelled_out
from raynas.supernet.protocol import ONE_SHOTS, OneShot


def register(algorithm: Any = None, name: str | None = None) -> Any:
    """Register an algorithm: ``@register``, ``@register("name")`` or ``register(it, "name")``.

    Args:
        algorithm: a subclass of ``raynas.core.sampler.Sampler``, which is asked and told, or of
            ``raynas.supernet.protocol.OneShot``, which trains a supernet.
        name: None takes its own.

    Raises:
        TypeError: it is neither.
        ValueError: the name is another's.
    """
    return registered_by(_enter, algorithm, name)


def _enter(name: str, algorithm: Any) -> None:
    if inspect.isclass(algorithm) and issubclass(algorithm, Sampler):
        SAMPLERS.register(name, algorithm)
    elif inspect.isclass(algorithm) and issubclass(algorithm, OneShot):
        ONE_SHOTS.register(name, algorithm)
    else:
        raise TypeError(
            f"algorithm {name!r}: expected a subclass of Sampler (asked and told) or of OneShot "
            f"(trains a supernet), got {algorithm!r}"
        )


def build(spec: Any, /, **options: Any) -> ComponentSpec:
    """Return an algorithm with its options, checked; ``raynas.search`` takes it as ``algo``.

    >>> build("EvolutionOptim", pop_size=50).options["population"]
    50

    Args:
        spec: a name, ``[name, {option: value}]``, or ``{"type": name, "args": {...}}``.
        options: by the name's own words; those of the spec override them.

    Raises:
        UnknownName: no algorithm has the name.
        ValueError: an option that it does not have, or of another type.
    """
    alias, own = spelled_out(spec)
    name = name_of(alias)
    registry: Any = SAMPLERS if name in SAMPLERS else ONE_SHOTS
    settled = registry.options_under(alias, {**options, **own})
    if name in SAMPLERS:
        settled = checked("algorithm", name, SAMPLERS[name], settled, without=("seed",))
    else:
        resolve_one_shot(name, settled, None)
    return ComponentSpec(name=name, options=settled)


def get_builder(name: str) -> Callable[..., ComponentSpec]:
    """Return what takes an algorithm's options and gives it with them."""
    name_of(name)
    return partial(build, name)
