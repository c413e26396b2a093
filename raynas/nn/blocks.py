"""What networks that are one chain of blocks share: their table, skips, and the chain itself."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from raynas.core.arch import Arch
from raynas.nn.choice import LayerChoice
from raynas.nn.modelspace import ModelSpace
from raynas.nn.operators import OPERATORS, FBNetBlock, InvertedResidual, conv_bn
from raynas.nn.operators import round_channels as round_channels


@dataclass(frozen=True)
class Stage:
    """A row of a chain's table: blocks of equal width, the first one strided.

    Attributes:
        channels: of every block's output.
        blocks: how many.
        stride: of the first block; the others have 1.
        expand: hidden channels per input channel of the published block, where that is fixed.
    """

    channels: int
    blocks: int
    stride: int
    expand: int = 6


@dataclass(frozen=True)
class Layout:
    """A chain's table at width 1 and depth 1; it never changes, a variant is a copy.

    Attributes:
        stem: channels of the 3x3 convolution that the chain begins with.
        stem_stride: its stride.
        stages: rows in order.
        head: channels of the 1x1 convolution that the chain ends with.
        act: activation of stem and head.
        bn_eps: what every BatchNorm adds to the variance.
    """

    stem: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head: int
    act: Callable[..., nn.Module] = nn.ReLU6
    bn_eps: float = 1e-5

    def with_stride_1(self, *numbers: int) -> Layout:
        """Return a copy whose stem (0) and stages (from 1) of these numbers keep the resolution."""
        stages = tuple(
            replace(stage, stride=1) if number in numbers else stage
            for number, stage in enumerate(self.stages, 1)
        )
        stem_stride = 1 if 0 in numbers else self.stem_stride
        return replace(self, stem_stride=stem_stride, stages=stages)

    def places(self, width: float = 1.0, depth: float = 1.0) -> Iterator[Place]:
        """Yield where the blocks stand, in order.

        Args:
            width: multiplier of all channels.
            depth: multiplier of the blocks per stage.
        """
        channels, index = round_channels(self.stem * width), 0
        for number, stage in enumerate(self.stages, 1):
            out = round_channels(stage.channels * width)
            for position in range(1, math.ceil(stage.blocks * depth) + 1):
                index += 1
                stride = stage.stride if position == 1 else 1
                yield Place(channels, out, stride, stage, f"stage{number}_block{position}", index)
                channels = out


@dataclass(frozen=True)
class Place:
    """Where a block of a chain stands.

    Attributes:
        channels_in: of its input.
        channels_out: of its output.
        stride: by which it shrinks height and width.
        stage: the row of the table that it belongs to.
        name: stage and position, such as ``stage2_block1``.
        index: its number in the chain, from 1.
    """

    channels_in: int
    channels_out: int
    stride: int
    stage: Stage
    name: str
    index: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Input channels, output channels and stride, as operators take them."""
        return (self.channels_in, self.channels_out, self.stride)

    @property
    def same(self) -> bool:
        """Whether output and input have one shape, so that the block may have a skip."""
        return self.stride == 1 and self.channels_in == self.channels_out


Block = Callable[[Place], nn.Module]


class Residual(nn.Module):
    """Adds its input to a block's output; out of place, since a block may return its input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return x + block(x)."""
        return x + self.block(x)  # type: ignore[no-any-return]


class SpatialMean(nn.Module):
    """Averages over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """Return means of shape (batch, channels)."""
        return x.mean((2, 3))


def with_skip(block: nn.Module, place: Place) -> nn.Module:
    """Return the block with a skip connection round it where the shapes allow one."""
    return Residual(block) if place.same else block


def operator_choice(place: Place, names: Sequence[str]) -> LayerChoice:
    """Return a choice between registered operators that are known to fit every place.

    ``raynas.nn.operators.candidates`` tries them as well, which takes longer than making them.
    """
    return LayerChoice({name: OPERATORS[name](*place.shape) for name in names}, label=place.name)


class Chain(nn.Module):
    """Stem, blocks, head; input (batch, in_channels, height, width), output logits.

    Args:
        layout: the table.
        block: makes the block of every place.
        num_classes: length of the output.
        in_channels: of the images.
        width: multiplier of all channels, the head's included.
        depth: multiplier of the blocks per stage.
        dropout: probability before the classifier.
        zero_init_residual: start every block with a skip as the identity (zero last BatchNorm
            weight; Goyal et al., 2017, arXiv:1706.02677, section 5.1).
    """

    def __init__(
        self,
        layout: Layout,
        block: Block,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        depth: float = 1.0,
        dropout: float = 0.0,
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        channels = round_channels(layout.stem * width)
        stem = conv_bn(in_channels, channels, 3, layout.stem_stride)
        self.stem = nn.Sequential(OrderedDict(stem, act=layout.act(inplace=True)))
        self.blocks = nn.ModuleDict()
        for place in layout.places(width, depth):
            self.blocks[place.name] = block(place)
            channels = place.channels_out
        head = round_channels(layout.head * width)
        self.head = nn.Sequential(
            OrderedDict(conv_bn(channels, head, 1), act=layout.act(inplace=True))
        )
        self.pool = SpatialMean()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head, num_classes)
        self._init_weights(layout.bn_eps, zero_init_residual)

    def _init_weights(self, bn_eps: float, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = bn_eps
        if zero_init_residual:
            for skip in self.modules():
                if isinstance(skip, Residual) or (isinstance(skip, FBNetBlock) and skip.skips):
                    for block in (m for m in skip.modules() if isinstance(m, InvertedResidual)):
                        nn.init.zeros_(block.get_parameter("project.bn.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        for _, stage in self.stages():
            x = stage(x)
        return x

    def stages(self) -> tuple[tuple[str, nn.Module], ...]:
        """Return by name what ``forward`` runs in order (see ``raynas.supernet.stages``)."""
        ends = ("head", "pool", "dropout", "classifier")
        last = ((name, self.get_submodule(name)) for name in ends)
        return (("stem", self.stem), *self.blocks.items(), *last)


def image_shape(
    space: str, *, in_channels: int, resolution: int, **multipliers: float
) -> tuple[int, int, int]:
    """Return the input shape of a space of images after checking what must be positive.

    Args:
        space: its name, for messages.
        in_channels: of the images.
        resolution: height and width of the images.
        multipliers: such as width and depth, and other numbers that must be positive.

    Raises:
        ValueError: one of them is not positive.
    """
    for name, value in {
        "in_channels": in_channels,
        "resolution": resolution,
        **multipliers,
    }.items():
        if value <= 0:
            raise ValueError(f"{space}: {name} must be positive, got {value}")
    return (in_channels, resolution, resolution)


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
