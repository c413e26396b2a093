"""ShuffleNetV2 blocks, as SPOS searches them (Guo et al., 2020, arXiv:1904.00420).

``SHU{kernel}``: the block of Ma et al. (2018, arXiv:1807.11164). ``SHX{kernel}``: its Xception
form, with three depthwise convolutions. Kernels are 3, 5, 7, 9; SPOS has 3, 5, 7 of the first and
3 of the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.nn.operators.layers import conv_bn
from raynas.nn.operators.operator_registry import OPERATORS


class ShuffleBlock(nn.Module):
    """Puts what a branch makes of one part of the channels behind the other part.

    At stride 1 the even channels pass and the odd ones go into the branch: the channel shuffle at
    the end of one block and the split at the beginning of the next, in one. At a larger stride the
    branch reads all channels, and a depthwise and a 1x1 convolution stand in the other part's way;
    it has as many output as input channels there, at most half of the block's.

    Differs: at a larger stride the authors' block needs more output than input channels; the bound
    of one half, which no block of theirs exceeds, makes it work for any.

    Args:
        channels_in: input channels, an even number.
        channels_out: output channels, an even number; half as many are inside the branch.
        stride: of the first depthwise convolution of the branch, and of the other part's.
        kernel: odd size of the depthwise convolutions.
        xception: three depthwise-pointwise pairs as the branch instead of pointwise, depthwise,
            pointwise.

    Raises:
        InvalidSpace: odd channels, or fewer output channels than pass at stride 1.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        *,
        kernel: int,
        xception: bool = False,
    ) -> None:
        super().__init__()
        _check(channels_in, channels_out, stride)
        self.split = stride == 1
        passing = channels_in // 2 if self.split else min(channels_in, channels_out // 2)
        entering = channels_in // 2 if self.split else channels_in
        branch = _xception if xception else _bottleneck
        self.branch = nn.Sequential(
            *branch(entering, channels_out // 2, channels_out - passing, kernel, stride)
        )
        self.shortcut = (
            nn.Identity()
            if self.split
            else nn.Sequential(
                *_depthwise(channels_in, kernel, stride), *_pointwise(channels_in, passing)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels_out, ceil(height / stride), ceil(width / stride))."""
        passing, entering = (x[:, ::2], x[:, 1::2]) if self.split else (x, x)
        return torch.cat([self.shortcut(passing), self.branch(entering)], 1)


def _check(channels_in: int, channels_out: int, stride: int) -> None:
    where = f"a ShuffleNetV2 block of {channels_in} -> {channels_out} channels at stride {stride}"
    if channels_in % 2 or channels_out % 2:
        raise InvalidSpace(f"{where}: both must be even, since the channels are split in two")
    if stride == 1 and channels_out <= channels_in // 2:
        raise InvalidSpace(f"{where}: {channels_in // 2} channels pass, which leaves none to make")


def _depthwise(channels: int, kernel: int, stride: int) -> Iterator[nn.Module]:
    yield from conv_bn(channels, channels, kernel, stride, channels).values()


def _pointwise(channels_in: int, channels_out: int) -> Iterator[nn.Module]:
    yield from conv_bn(channels_in, channels_out, 1).values()
    yield nn.ReLU(inplace=True)


def _bottleneck(
    channels_in: int, inside: int, channels_out: int, kernel: int, stride: int
) -> Iterator[nn.Module]:
    yield from _pointwise(channels_in, inside)
    yield from _depthwise(inside, kernel, stride)
    yield from _pointwise(inside, channels_out)


def _xception(
    channels_in: int, inside: int, channels_out: int, kernel: int, stride: int
) -> Iterator[nn.Module]:
    yield from _depthwise(channels_in, kernel, stride)
    yield from _pointwise(channels_in, inside)
    yield from _depthwise(inside, kernel, 1)
    yield from _pointwise(inside, inside)
    yield from _depthwise(inside, kernel, 1)
    yield from _pointwise(inside, channels_out)


for _kernel in (3, 5, 7, 9):
    OPERATORS.register(f"SHU{_kernel}")(partial(ShuffleBlock, kernel=_kernel))
    OPERATORS.register(f"SHX{_kernel}")(partial(ShuffleBlock, kernel=_kernel, xception=True))
