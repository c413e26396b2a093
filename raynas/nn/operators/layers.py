"""Layers that several candidate operations are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from raynas.core.errors import InvalidSpace, nearest
from raynas.nn.operators.polyphase import PolyphaseConv2d
from raynas.nn.pointwise import PointwiseConv2d

Activation = Literal["relu6", "relu", "hswish"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu6": lambda: nn.ReLU6(inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "hswish": lambda: nn.Hardswish(inplace=True),
}


def new_activation(name: str) -> nn.Module:
    """Return an activation that overwrites its input; never the first layer of an operator.

    Raises:
        InvalidSpace: there is no such activation.
    """
    if name not in ACTIVATIONS:
        raise InvalidSpace(f"no activation named {name!r}; {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def conv2d(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias, with padding for equal size at stride 1."""
    if kernel == 1 and stride > 1 and groups == 1:
        return PointwiseConv2d(channels_in, channels_out, stride)
    return nn.Conv2d(
        channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
    )


def conv_bn(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    """Return a convolution with padding for equal size at stride 1, and its BatchNorm."""
    conv = conv2d(channels_in, channels_out, kernel, stride, groups)
    return OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out))


def separable(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1
) -> OrderedDict[str, nn.Module]:
    """Return a depthwise convolution, padded for equal size at stride 1, and a 1x1 convolution."""
    depthwise: nn.Module = (
        PolyphaseConv2d(channels_in, kernel, stride)
        if dilation == 2
        else nn.Conv2d(
            channels_in,
            channels_in,
            kernel,
            stride,
            dilation * (kernel // 2),
            dilation,
            groups=channels_in,
            bias=False,
        )
    )
    return OrderedDict(
        depthwise=depthwise, pointwise=nn.Conv2d(channels_in, channels_out, 1, bias=False)
    )


def round_channels(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8 and at least 90 % of ``channels``.

    >>> round_channels(32 * 0.25), round_channels(24 * 0.75), round_channels(11)
    (8, 24, 16)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in [0, 1] that is computed from all channels' means.

    Two 1x1 convolutions with bias, a ReLU between them and a hard sigmoid behind (Hu et al., 2018,
    arXiv:1709.01507; the gate of MobileNetV3, Howard et al., 2019, arXiv:1905.02244).

    Args:
        channels: of input and output.
        reduction: channels per hidden channel; hidden channels are rounded to a multiple of 8.
    """

    def __init__(self, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        hidden = round_channels(channels / reduction)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return x with scaled channels; (batch, channels, height, width)."""
        means = x.mean((2, 3), keepdim=True)
        gates: Tensor = self.gate(self.expand(self.act(self.reduce(means))))
        return x * gates


class ChannelShuffle(nn.Module):
    """Deals the channels of every group out to all groups (Zhang et al., 2018, arXiv:1707.01083).

    Args:
        groups: how many; they divide the channels.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Return x with its channels in another order."""
        shuffled: Tensor = x.unflatten(1, (self.groups, -1)).transpose(1, 2)
        return shuffled.flatten(1, 2)


def check_equal_channels(what: str, channels_in: int, channels_out: int) -> None:
    """Raise InvalidSpace if a layer that cannot change the channels is asked to."""
    if channels_in != channels_out:
        raise InvalidSpace(
            f"{what} needs as many output as input channels, got {channels_in} -> {channels_out}"
        )


def check_stride(what: str, stride: int) -> None:
    """Raise InvalidSpace unless the stride is 1 or 2."""
    if stride not in (1, 2):
        raise InvalidSpace(f"{what} needs stride 1 or 2, got {stride}")
