"""The nine blocks of FBNet (Wu et al., 2019, arXiv:1812.03443, table 2), under ``fbnet_`` names.

``fbnet_k{kernel}_e{expand}``, with ``_g2`` behind where the 1x1 convolutions have two groups, and
``fbnet_skip``.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from raynas.nn.operators.inverted_residual import InvertedResidual
from raynas.nn.operators.layers import conv_bn
from raynas.nn.operators.operator_registry import OPERATORS

FBNET_BLOCKS = (
    "fbnet_k3_e1",
    "fbnet_k3_e1_g2",
    "fbnet_k3_e3",
    "fbnet_k3_e6",
    "fbnet_k5_e1",
    "fbnet_k5_e1_g2",
    "fbnet_k5_e3",
    "fbnet_k5_e6",
    "fbnet_skip",
)


class FBNetBlock(nn.Module):
    """An inverted residual with ReLU, and its own skip connection where the shape is kept.

    The skip connection is part of the block (section 3.1), so that the candidate ``fbnet_skip``
    beside it passes its input once. The first 1x1 convolution is there at expansion 1 too, and two
    groups are shuffled behind it, as in the authors' code.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the depthwise convolution.
        kernel: its odd size.
        expand: hidden channels per input channel.
        groups: of both 1x1 convolutions.

    Raises:
        InvalidSpace: the groups do not divide the channels.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        *,
        kernel: int,
        expand: int,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.skips = stride == 1 and channels_in == channels_out
        self.body = InvertedResidual(
            channels_in,
            channels_out,
            stride,
            kernel=kernel,
            expand=expand,
            activation="relu",
            groups=groups,
            keep_expand=True,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels_out, ceil(height / stride), ceil(width / stride))."""
        out: Tensor = self.body(x)
        return x + out if self.skips else out


@OPERATORS.register("fbnet_skip")
def fbnet_skip(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return the identity where the shape is kept, else 1x1 convolution, BatchNorm and ReLU."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    layers = conv_bn(channels_in, channels_out, 1, stride)
    return nn.Sequential(OrderedDict(layers, act=nn.ReLU(inplace=True)))


for _kernel in (3, 5):
    for _expand, _groups in ((1, 1), (1, 2), (3, 1), (6, 1)):
        _suffix = f"_g{_groups}" if _groups > 1 else ""
        OPERATORS.register(f"fbnet_k{_kernel}_e{_expand}{_suffix}")(
            partial(FBNetBlock, kernel=_kernel, expand=_expand, groups=_groups)
        )
