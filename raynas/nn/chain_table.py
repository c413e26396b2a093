"""The table of a network that is one chain of blocks, as papers print it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import nn

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


# ProxylessNAS' rows, which others took over: 21 blocks behind a first one of expansion 1
EVEN_STAGES = (
    Stage(16, 1, 1, expand=1),
    Stage(24, 4, 2),
    Stage(40, 4, 2),
    Stage(80, 4, 2),
    Stage(96, 4, 1),
    Stage(192, 4, 2),
    Stage(320, 1, 1),
)


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
        narrow_head: whether a width below 1 narrows the head too; a width above 1 always widens it.
    """

    stem: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head: int
    act: Callable[..., nn.Module] = nn.ReLU6
    bn_eps: float = 1e-5
    narrow_head: bool = True

    def head_channels(self, width: float) -> int:
        """Return the head's channels at a multiplier of all channels."""
        return round_channels(self.head * (width if self.narrow_head else max(width, 1.0)))

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
