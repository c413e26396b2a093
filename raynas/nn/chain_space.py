"""Spaces of networks that are one chain of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from raynas.core.arch import Arch
from raynas.nn.modelspace import ModelSpace, image_shape


def chain_space(
    name: str,
    net: Callable[..., nn.Module],
    *,
    num_classes: int,
    in_channels: int,
    resolution: int,
    width: float,
    depth: float,
    dropout: float = 0.0,
    canonical: Callable[[Arch], Arch] | None = None,
) -> ModelSpace:
    """Return the space of a chain with choices.

    Args:
        name: of the space.
        net: makes the chain from the options below.
        num_classes: length of the output.
        in_channels: of the images.
        resolution: height and width of the images.
        width: multiplier of all channels.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        canonical: maps an architecture to the representative of its isomorphic ones.

    Raises:
        ValueError: an option that must be positive is not, or a dropout that is no probability
            below 1.
    """
    shape = image_shape(
        name,
        in_channels=in_channels,
        resolution=resolution,
        num_classes=num_classes,
        width=width,
        depth=depth,
    )
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout must be at least 0 and below 1, got {dropout}")
    factory = partial(
        net,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        depth=depth,
        dropout=dropout,
    )
    return ModelSpace(factory, input_shape=shape, name=name, canonical=canonical)


def idle_last(arch: Arch, groups: Sequence[Sequence[str]], idle: str) -> Arch:
    """Return the architecture whose idle blocks stand behind the others of their group.

    Blocks of one group are interchangeable positions, so that an identity among them may stand
    anywhere; the order of the others is kept.

    >>> idle_last(Arch({"a": "x", "b": "skip", "c": "y"}), [["a", "b", "c"]], "skip")
    Arch({'a': 'x', 'b': 'y', 'c': 'skip'})

    Args:
        arch: label to choice.
        groups: labels of interchangeable positions, in order.
        idle: the choice that computes nothing.
    """
    moved = dict(arch)
    for labels in groups:
        values = sorted((arch[label] for label in labels), key=lambda value: value == idle)
        moved.update(zip(labels, values, strict=True))
    return Arch(moved)
