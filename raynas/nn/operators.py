"""Candidate operations by name: what stands behind ``MB3E6`` and the like."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import nn

from raynas.core.registry import Registry

Operator = Callable[[int, int, int], nn.Module]
OPERATORS: Registry[Operator] = Registry("operator")


def conv_bn(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    """Return a convolution with padding for equal size at stride 1, and its BatchNorm."""
    conv = nn.Conv2d(
        channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out))


class InvertedResidual(nn.Sequential):
    """The part of a MobileNetV2 block that a skip connection goes round.

    Expand by 1x1, depthwise kernel x kernel, project by 1x1 without activation (Sandler et al.,
    2018, arXiv:1801.04381, table 1). An expansion of 1 has no expanding convolution.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the depthwise convolution.
        kernel: its odd size.
        expand: hidden channels per input channel.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, *, kernel: int, expand: int
    ) -> None:
        hidden = channels_in * expand
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if hidden != channels_in:
            layers["expand"] = nn.Sequential(conv_bn(channels_in, hidden, 1))
            layers["expand_act"] = nn.ReLU6(inplace=True)
        layers["depthwise"] = nn.Sequential(conv_bn(hidden, hidden, kernel, stride, hidden))
        layers["depthwise_act"] = nn.ReLU6(inplace=True)
        layers["project"] = nn.Sequential(conv_bn(hidden, channels_out, 1))
        super().__init__(layers)


for _kernel in (3, 5, 7, 9):
    for _expand in (1, 3, 6, 9):
        OPERATORS.register(f"MB{_kernel}E{_expand}")(
            partial(InvertedResidual, kernel=_kernel, expand=_expand)
        )
