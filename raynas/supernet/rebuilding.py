"""Whether a supernet that is built again, and given what was kept of it, computes the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from raynas.core.covering import covering
from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, call, first, mapped
from raynas.nn.buffers import make_room
from raynas.nn.modelspace import ModelSpace, zeros_like_signature
from raynas.nn.mutable import activate_unchecked, each_route, space_of
from raynas.nn.random_state import own_random_state
from raynas.supernet.attributes import (
    Attributes,
    attributes_kept,
    hidden_attributes,
    modes_kept,
    read_attributes,
    write_attributes,
)
from raynas.supernet.checkpoint import load_about, load_weights
from raynas.supernet.plain_data import is_data, is_equal

TOLERANCE = 0.001  # of the largest output
ADVICE = (
    "keep it as an attribute or a buffer of the module, or draw it from torch's, numpy's or "
    "Python's global generator"
)


def check_rebuilding(space: ModelSpace, inputs: Any) -> None:
    """Build a supernet twice, so that what could not be rebuilt is said before it is trained.

    Args:
        space: of the supernet.
        inputs: signature of an example.

    Raises:
        InvalidSpace: what is built twice by one seed, weights and attributes alike, differs.
    """
    skeleton = space.skeleton()
    for name, value in skeleton.state_dict().items():
        if not is_data(value):
            kind = type(value).__name__
            raise InvalidSpace(f"{space.name}: the state {name!r} is a {kind}, expected plain data")
    if not any(hidden_attributes(skeleton)):
        return
    model = space.supernet()
    example = mapped(_random, zeros_like_signature(inputs, 2))
    check_rebuilt(space, model, read_attributes(model), example)


def _random(x: Tensor) -> Tensor:
    """Return numbers of a seed in the place of zeros; whole numbers stay zero."""
    if not x.is_floating_point():
        return x
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)


def check_rebuilt(
    space: ModelSpace, model: nn.Module, attributes: Attributes, example: Nest
) -> None:
    """Check that a supernet can be built again from what is kept of it.

    Models that keep nothing else than data are not run.

    Args:
        space: that the supernet is of.
        model: the supernet.
        attributes: of it, as ``read_attributes`` returns them.
        example: a batch of inputs.

    Raises:
        InvalidSpace: naming what may be the reason.
    """
    hidden = list(hidden_attributes(model))
    if not hidden:
        return
    again = space.supernet()
    try:
        make_room(again, model.state_dict())
        again.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise InvalidSpace(
            f"{space.name} is built otherwise each time, though by one seed: {error}"
        ) from error
    write_attributes(again, attributes)
    again.to(first(example).device)
    with _left_alone(model), _left_alone(again):
        for arch in covering(space_of(model)):
            for net in (model, again):
                activate_unchecked(net, arch)
            ours, theirs = _outputs(model, example), _outputs(again, example)
            if not _agree(ours, theirs) and _agree(ours, _outputs(model, example)):
                see = ", ".join(hidden[:5])
                raise InvalidSpace(
                    f"{space.name} computes something else when it is built again by the same "
                    f"seed, though weights and attributes are the same: see {see}; {ADVICE}"
                )


def check_checkpoint(space: ModelSpace, checkpoint: Path, path: str) -> None:
    """Check that a supernet that was trained elsewhere is one of a space.

    Args:
        space: of the supernet.
        checkpoint: that holds it.
        path: how messages call it.

    Raises:
        ValueError: it is no supernet's, weights have other names or shapes, its seed makes other
            choices, or the checkpoint is so old that it lacks what its seed has drawn.
    """
    about = load_about(checkpoint)
    if "epoch" not in about:
        raise ValueError(f"{checkpoint} is no supernet: it tells no epoch")
    seed, other = about.get("seed"), ""
    built = space if seed is None else space.seeded(seed)
    wanted, given = _shapes(built.skeleton().state_dict()), _shapes(load_weights(checkpoint))
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            there, here = given.get(name, "none"), wanted.get(name, "none")
            other = f"{name!r} has shape {there} there, {here} here"
            break
    if not other and built.arch_space.choices != space.arch_space.choices:
        other = f"its seed {seed} makes other choices than this run's, {space.seed}"
    if other:
        raise ValueError(
            f"the supernet in {path} is not one of {space.name} as it is asked for: "
            f"{_trained_on(about)}{other}"
        )
    drawn = [] if seed is not None else _drawn(space)
    if drawn:
        raise ValueError(
            f"the supernet in {path} is of an earlier version, which did not keep "
            f"{', '.join(drawn)}, drawn at random: train it again"
        )


def _trained_on(about: Mapping[str, Any]) -> str:
    """Return what a checkpoint says of its space; releases before did not."""
    space = about.get("space")
    if not isinstance(space, Mapping):
        return ""
    options = f" with {space['options']}" if space.get("options") else ""
    return f"it was trained on {space.get('name')}{options}; "


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in state.items() if isinstance(t, Tensor)}


def _drawn(space: ModelSpace) -> list[str]:
    """Return which attributes depend on the seed."""
    first, second = (read_attributes(space.supernet(seed)) for seed in (0, 1))
    return [path.lstrip(".") for path in first if not is_equal(first[path], second.get(path))]


@contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    restore = each_route(model, lambda mutable: mutable.route)
    with attributes_kept(model), modes_kept(model):
        model.eval()
        yield
    restore()


@torch.no_grad()
def _outputs(model: nn.Module, example: Nest) -> list[Tensor]:
    with own_random_state(first(example).device, 0), attributes_kept(model):
        return [leaf for leaf in tree_leaves(call(model, example)) if isinstance(leaf, Tensor)]


def _agree(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return False
    return all(
        bool(((x - y).abs() <= TOLERANCE * x.abs().max()).all()) or torch.equal(x, y)
        for x, y in zip(ours, theirs, strict=True)
    )
