"""An inverted residual of elastic kernel and width, from which Once-for-All nets are made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from raynas.nn.elastic_conv import Conv2d, Size
from raynas.nn.elastic_norm import BatchNorm2d
from raynas.nn.expression import Expression
from raynas.nn.operators.layers import Activation, new_activation, round_channels

REDUCTION = 4


class ElasticInvertedResidual(nn.Sequential):
    """The part of a MobileNetV3 block that a skip connection goes round, with elastic sizes.

    Expand by 1x1, depthwise kernel x kernel, gate the channels if ``squeeze_excite`` is set,
    project by 1x1 without activation (Howard et al., 2019, arXiv:1905.02244, figure 4). Narrower
    blocks take the first hidden channels, smaller kernels the transformed centre of the next larger
    one (Cai et al., 2020, arXiv:1908.09791, section 3.3).

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the depthwise convolution.
        kernel: its odd size, or a value choice of such.
        expand: hidden channels per input channel, before rounding to a multiple of 8, or a value
            choice of such. The number 1 leaves the expanding convolution out.
        activation: behind the first two convolutions: ``relu6``, ``relu`` or ``hswish``.
        squeeze_excite: scale the channels behind the depthwise convolution's activation.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        *,
        kernel: Size,
        expand: float | Expression,
        activation: Activation = "relu",
        squeeze_excite: bool = False,
    ) -> None:
        hidden = _computed(hidden_channels, channels_in, expand)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if isinstance(expand, Expression) or expand != 1:
            layers["expand"] = _conv_bn(channels_in, hidden, 1)
            layers["expand_act"] = new_activation(activation)
        depthwise = {"stride": stride, "groups": hidden, "kernel_transform": True}
        layers["depthwise"] = _conv_bn(hidden, hidden, kernel, **depthwise)
        layers["depthwise_act"] = new_activation(activation)
        if squeeze_excite:
            layers["squeeze_excite"] = ElasticSqueezeExcite(hidden)
        layers["project"] = _conv_bn(hidden, channels_out, 1)
        super().__init__(layers)


class ElasticSqueezeExcite(nn.Module):
    """Scales each channel by a gate that all channels' means decide.

    Source: Hu et al., 2018, arXiv:1709.01507, with the piecewise linear gate of MobileNetV3.

    Args:
        channels: of input and output, or a value; a quarter of them, rounded to a multiple of 8,
            stand between.
    """

    def __init__(self, channels: Size) -> None:
        super().__init__()
        squeezed = _computed(squeezed_channels, channels)
        self.reduce = Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled input, shape (batch, channels, height, width)."""
        gate = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        scaled: Tensor = x * self.gate(gate)
        return scaled


def hidden_channels(channels: int, expand: float) -> int:
    """Return the width between expansion and projection.

    >>> hidden_channels(40, 3), hidden_channels(24, 4), hidden_channels(20, 3)
    (120, 96, 64)
    """
    return channels if expand == 1 else round_channels(round(channels * expand))


def squeezed_channels(channels: int) -> int:
    """Return the width between the two layers of a squeeze-and-excitation.

    >>> squeezed_channels(72), squeezed_channels(960)
    (24, 240)
    """
    return round_channels(channels / REDUCTION)


def _conv_bn(channels_in: Size, channels_out: Size, kernel: Size, **options: Any) -> nn.Sequential:
    padding = kernel // 2
    conv = Conv2d(channels_in, channels_out, kernel, padding=padding, bias=False, **options)
    return nn.Sequential(OrderedDict(conv=conv, bn=BatchNorm2d(channels_out)))


def _computed(function: Callable[..., int], *arguments: Any) -> Size:
    """Return the function's value: a number, or one that follows from decisions."""
    if any(isinstance(argument, Expression) for argument in arguments):
        return Expression(function, *arguments)
    return function(*arguments)
