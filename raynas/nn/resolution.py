"""Elastic resolution: images are resized to the size that the architecture says."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch, Value
from raynas.core.errors import InvalidSpace
from raynas.nn.elastic import Arguments, Elastic, checked_whole
from raynas.nn.expression import Expression
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import Memo, activate_unchecked, name_labels
from raynas.nn.value import ValueChoice

RESOLUTION = "resolution"


class Resize(nn.Module):
    """Resizes images to a square, bilinearly and against aliasing; those of that size pass."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return images of shape (batch, channels, size, size)."""
        return resized(x, self.size)

    def extra_repr(self) -> str:
        """Return the size."""
        return str(self.size)


class Resolution(Elastic):
    """Stands where images enter a model, and resizes them to the architecture's resolution.

    So resolution is a decision like any other: costs, latencies, inherited weights and the plain
    network all go by it (Cai et al., 2020, arXiv:1908.09791, section 3.1).

    Differs: the authors read images at the size; here they are resized as they come, so that one
    set of data serves all sizes, larger ones than its own too.

    Args:
        size: height and width: a number, several to choose from, or a value choice of such.
        label: name of the decision where ``size`` lists several; None takes the module's path.

    Raises:
        InvalidSpace: a size is no positive whole number.
    """

    dimensions: ClassVar = {"size": "resolution"}

    def __init__(self, size: int | Iterable[int] | Expression, label: str | None = None) -> None:
        super().__init__()
        if isinstance(size, Iterable) and not isinstance(size, Expression):
            size = ValueChoice(size, label)
        checked_whole("Resolution", {"size": size})
        self.label, self.arguments = label, {"size": size}

    def name_values(self, path: str) -> None:
        """Label an unlabelled value by the module's path."""
        size = self.arguments["size"]
        if isinstance(size, Expression):
            size.name(path or RESOLUTION)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the active size."""
        return resized(x, self.now()["size"])

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return a ``Resize``."""
        return Resize(arguments["size"])

    def frozen(self, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
        """Return a ``Resize`` of the architecture's size."""
        return self.plain(self.at(arch)).train(self.training)

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return nothing: there are no weights."""
        return {}


def resized(x: Tensor, size: int) -> Tensor:
    """Return images of this height and width.

    Raises:
        ValueError: the input is no batch of images.
    """
    if x.dim() != 4:
        raise ValueError(
            f"a resolution is of images, of shape (batch, channels, height, width), got "
            f"{tuple(x.shape)}"
        )
    if tuple(x.shape[2:]) == (size, size):
        return x
    return nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)


@dataclass(frozen=True)
class AtResolutions:
    """Builds a space's model behind a ``Resolution``.

    Attributes:
        factory: of the model.
        sizes: to choose from.
    """

    factory: Callable[[], nn.Module]
    sizes: tuple[int, ...]

    def __call__(self) -> nn.Module:
        """Return the model; decisions have the labels that they have without it."""
        net = self.factory()
        name_labels(net)
        parts = {RESOLUTION: Resolution(self.sizes, RESOLUTION), "net": net}
        return nn.Sequential(OrderedDict(parts))


def at_resolutions(space: ModelSpace, sizes: Iterable[int]) -> ModelSpace:
    """Return a space of images with one more decision, ``resolution``.

    Args:
        space: of images.
        sizes: heights and widths to choose from.

    Raises:
        InvalidSpace: the space takes no images, or images of one size only, chooses a resolution
            already, or a size is wrong.
    """
    sizes = tuple(sizes)
    if space.input_shape is None or len(space.input_shape) != 3:
        raise InvalidSpace(
            f"{space.name} takes no images of a known size, so it has no resolutions: its inputs "
            f"are {space.signature}"
        )
    if RESOLUTION in space.arch_space.labels:
        raise InvalidSpace(f"{space.name} has a decision {RESOLUTION!r} already")
    checked_whole(space.name, {RESOLUTION: ValueChoice(sizes, RESOLUTION)})
    _check_runs_at(space, min(sizes))

    def canonical(arch: Arch) -> Arch:
        rest = {label: value for label, value in arch.items() if label != RESOLUTION}
        return Arch({RESOLUTION: arch[RESOLUTION], **space.canonical(Arch(rest))})

    other = copy.copy(space)
    vars(other).pop("arch_space", None)
    other.factory = AtResolutions(space.factory, sizes)
    other._canonical = None if space._canonical is None else canonical
    return other


def _check_runs_at(space: ModelSpace, size: int) -> None:
    """Raise InvalidSpace if a space's networks take images of another size only."""
    net = space.supernet().eval()
    activate_unchecked(net, space.arch_space.sample(np.random.default_rng(0)))
    try:
        with torch.no_grad():
            net(resized(space.example_input(), size))
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        raise InvalidSpace(
            f"{space.name} has no resolutions: its networks do not take images of {size} pixels "
            f"({text})"
        ) from error
