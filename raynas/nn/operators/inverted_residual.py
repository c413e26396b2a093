"""Inverted residuals by name: kernel x kernel depthwise between two 1x1 convolutions.

``MB{kernel}E{expand}``: MobileNetV2's block with ReLU6 (Sandler et al., 2018, arXiv:1801.04381).
``M3B{kernel}E{expand}``: MobileNetV3's, with ReLU (Howard et al., 2019, arXiv:1905.02244).
Kernels are 3, 5, 7, 9 and expansions 1, 3, 6, 9. A letter behind changes one thing: ``S`` adds a
squeeze-and-excitation, ``H`` takes h-swish as the activation, ``SH`` does both.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from raynas.core.errors import InvalidSpace
from raynas.nn.operators.layers import (
    Activation,
    ChannelShuffle,
    SqueezeExcite,
    conv_bn,
    new_activation,
)
from raynas.nn.operators.operator_registry import OPERATORS


class InvertedResidual(nn.Sequential):
    """The part of a MobileNetV2 or V3 block that a skip connection goes round.

    Expand by 1x1, depthwise kernel x kernel, project by 1x1 without activation (Sandler et al.,
    2018, arXiv:1801.04381, table 1). An expansion of 1 has no expanding convolution, unless
    ``keep_expand`` or ``groups`` ask for it.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the depthwise convolution.
        kernel: its odd size.
        expand: hidden channels per input channel.
        activation: behind the first two convolutions: ``relu6``, ``relu`` or ``hswish``.
        squeeze_excite: scale the channels behind the depthwise convolution's activation, with
            a quarter of them hidden (Howard et al., 2019, arXiv:1905.02244, section 5.3).
        groups: of both 1x1 convolutions; above 1, the channels are shuffled behind the first.
        keep_expand: have the first 1x1 convolution at expansion 1 too.

    Raises:
        InvalidSpace: the groups do not divide the channels, or an unknown activation.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        *,
        kernel: int,
        expand: int,
        activation: Activation = "relu6",
        squeeze_excite: bool = False,
        groups: int = 1,
        keep_expand: bool = False,
    ) -> None:
        _check_groups(groups, channels_in, channels_out)
        hidden = channels_in * expand
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if hidden != channels_in or keep_expand or groups > 1:
            layers["expand"] = nn.Sequential(conv_bn(channels_in, hidden, 1, groups=groups))
            layers["expand_act"] = new_activation(activation)
        if groups > 1:
            layers["shuffle"] = ChannelShuffle(groups)
        layers["depthwise"] = nn.Sequential(conv_bn(hidden, hidden, kernel, stride, hidden))
        layers["depthwise_act"] = new_activation(activation)
        if squeeze_excite:
            layers["squeeze_excite"] = SqueezeExcite(hidden)
        layers["project"] = nn.Sequential(conv_bn(hidden, channels_out, 1, groups=groups))
        super().__init__(layers)


def _check_groups(groups: int, channels_in: int, channels_out: int) -> None:
    if channels_in % groups or channels_out % groups:
        raise InvalidSpace(
            f"an inverted residual with {groups} groups needs channels that {groups} divides, got "
            f"{channels_in} -> {channels_out}"
        )


def _register(kernel: int, expand: int) -> None:
    usual: dict[str, Activation] = {"MB": "relu6", "M3B": "relu"}
    for prefix, act in usual.items():
        for suffix in ("", "S", "H", "SH"):
            OPERATORS.register(f"{prefix}{kernel}E{expand}{suffix}")(
                partial(
                    InvertedResidual,
                    kernel=kernel,
                    expand=expand,
                    activation="hswish" if "H" in suffix else act,
                    squeeze_excite="S" in suffix,
                )
            )


for _kernel in (3, 5, 7, 9):
    for _expand in (1, 3, 6, 9):
        _register(_kernel, _expand)
