"""The mixed operator that a model asks for, and the algorithm that is to search it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.core.options import options_of

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace

OPTION = "mixed_op"


def asked_for(space: ModelSpace, spec: ComponentSpec, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option by which an algorithm takes the mixed operator that a model asks for.

    Args:
        space: whose choices may ask for one (``raynas.nn.construct.mixed_op``).
        spec: of a one-shot algorithm, with all options.
        said: those that the user did say.
    """
    from raynas.gradient.mixed import MIXED_OPS
    from raynas.supernet.protocol import ONE_SHOTS

    takes = spec.name in ONE_SHOTS and OPTION in options_of(ONE_SHOTS[spec.name])
    if space.mixed_op is None or not takes or OPTION in said:
        return {}
    name, own = MIXED_OPS.resolved(space.mixed_op)
    if OPTION in spec.options:  # an alias' own
        preset, options = MIXED_OPS.resolved(spec.options[OPTION])
        if preset != name:
            return {}
        own = {**options, **own}
    return {OPTION: [name, own] if own else name}


@contextmanager
def explained(space: ModelSpace, algo: str) -> Iterator[None]:
    """Say what an operator goes with where an algorithm refuses the one that the model asks for."""
    from raynas.gradient.mixed import MIXED_OPS

    try:
        yield
    except ValueError as error:
        name, _ = MIXED_OPS.resolved(space.mixed_op)
        raise ValueError(
            f"{algo} does not take the mixed operator that the model asks for: {error}; {name} "
            f"goes with {', '.join(_going_with(name))}"
        ) from None


def check_mixed_op(space: ModelSpace, algo: str, takes: tuple[str, ...]) -> None:
    """Raise ValueError if an algorithm does not go with the mixed operator that a model asks for.

    Args:
        space: whose choices may ask for one.
        algo: name of the algorithm.
        takes: names of the mixed operators that go with it.
    """
    from raynas.gradient.mixed import MIXED_OPS

    if space.mixed_op is None:
        return
    name, _ = MIXED_OPS.resolved(space.mixed_op)
    if name not in takes:
        raise ValueError(
            f"{algo} goes with the mixed operator {' or '.join(takes)}, and the model asks for "
            f"{name}, which goes with {', '.join(_going_with(name)) or 'no algorithm here'}"
        )


def _going_with(name: str) -> list[str]:
    """Return what a mixed operator goes with: algorithms by gradients, and samplers."""
    from raynas.supernet.protocol import ONE_PATH, ONE_SHOTS

    found = []
    for algo in ONE_SHOTS:
        takes = OPTION in options_of(ONE_SHOTS[algo])
        try:
            ops = ONE_SHOTS.make(algo, seed=0, **({OPTION: name} if takes else {})).mixed_ops
        except ValueError:  # it takes others
            continue
        if ops != ONE_PATH and name in ops:
            found.append(algo)
    return [*found, "samplers such as evolution"] if name in ONE_PATH else found
