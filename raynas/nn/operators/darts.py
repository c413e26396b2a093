"""The eight primitives of DARTS (Liu et al., 2019, arXiv:1806.09055), as in the authors' code.

All take ``affine``: BatchNorms have no weights while one searches, and have them when one retrains.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from raynas.nn.operators.basic import FactorizedReduce, Zero
from raynas.nn.operators.layers import check_equal_channels, check_stride, conv2d, separable
from raynas.nn.operators.operator_registry import OPERATORS

DARTS_PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, BatchNorm; as 1x1, what a cell's inputs pass through.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        kernel: odd size of the convolution, padded for equal size at stride 1.
        stride: of the convolution.
        affine: give the BatchNorm weights.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        affine: bool = True,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(relu=nn.ReLU())
        layers["conv"] = conv2d(channels_in, channels_out, kernel, stride)
        layers["bn"] = nn.BatchNorm2d(channels_out, affine=affine)
        super().__init__(layers)


@OPERATORS.register("none")
def none(channels_in: int, channels_out: int, stride: int, *, affine: bool = False) -> nn.Module:
    """Return the operation that gives zeros.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: input pixels per output pixel.
        affine: taken so that all primitives are made alike; there is no BatchNorm here.
    """
    del affine
    return Zero(channels_in, channels_out, stride)


@OPERATORS.register("skip_connect")
def skip_connect(
    channels_in: int, channels_out: int, stride: int, *, affine: bool = False
) -> nn.Module:
    """Return the identity, or a factorized reduce at stride 2.

    Args:
        channels_in: input channels.
        channels_out: output channels; at stride 1, the same.
        stride: 1 or 2.
        affine: give the factorized reduce's BatchNorm weights.

    Raises:
        InvalidSpace: other channels at stride 1, or a stride above 2.
    """
    check_stride("skip_connect", stride)
    if stride == 2:
        return FactorizedReduce(channels_in, channels_out, affine=affine)
    check_equal_channels("skip_connect at stride 1", channels_in, channels_out)
    return nn.Identity()


@OPERATORS.register("max_pool_3x3")
def max_pool_3x3(
    channels_in: int,
    channels_out: int,
    stride: int,
    *,
    affine: bool = False,
    pool_bn: bool = True,
) -> nn.Module:
    """Return a max pool of 3 x 3 pixels and BatchNorm.

    Args:
        channels_in: input channels.
        channels_out: output channels, the same.
        stride: of the pool.
        affine: give the BatchNorm weights.
        pool_bn: have the BatchNorm; the authors' retrained networks do not.

    Raises:
        InvalidSpace: the channels change.
    """
    check_equal_channels("max_pool_3x3", channels_in, channels_out)
    return _pool(nn.MaxPool2d(3, stride, 1), channels_out, affine, pool_bn)


@OPERATORS.register("avg_pool_3x3")
def avg_pool_3x3(
    channels_in: int,
    channels_out: int,
    stride: int,
    *,
    affine: bool = False,
    pool_bn: bool = True,
) -> nn.Module:
    """Return an average over 3 x 3 pixels, not counting the padding, and BatchNorm.

    Args:
        channels_in: input channels.
        channels_out: output channels, the same.
        stride: of the pool.
        affine: give the BatchNorm weights.
        pool_bn: have the BatchNorm; the authors' retrained networks do not.

    Raises:
        InvalidSpace: the channels change.
    """
    check_equal_channels("avg_pool_3x3", channels_in, channels_out)
    pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return _pool(pool, channels_out, affine, pool_bn)


def sep_conv(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, affine: bool = False
) -> nn.Module:
    """Return two separable convolutions: ReLU, depthwise, 1x1, BatchNorm, and the same again.

    Args:
        channels_in: input channels; those of the first convolution's output too.
        channels_out: output channels.
        stride: of the first depthwise convolution.
        kernel: odd size of both depthwise convolutions.
        affine: give the BatchNorms weights.
    """
    first = _separable(channels_in, channels_in, stride, kernel, 1, affine)
    second = _separable(channels_in, channels_out, 1, kernel, 1, affine)
    return nn.Sequential(OrderedDict(first=first, second=second))


def dil_conv(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, affine: bool = False
) -> nn.Module:
    """Return a separable convolution with dilation 2: ReLU, depthwise, 1x1, BatchNorm.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the depthwise convolution.
        kernel: odd number of its taps in each direction.
        affine: give the BatchNorm weights.
    """
    return _separable(channels_in, channels_out, stride, kernel, 2, affine)


def _separable(
    channels_in: int, channels_out: int, stride: int, kernel: int, dilation: int, affine: bool
) -> nn.Module:
    convs = separable(channels_in, channels_out, kernel, stride, dilation)
    bn = nn.BatchNorm2d(channels_out, affine=affine)
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), **convs, bn=bn))


def _pool(pool: nn.Module, channels: int, affine: bool, pool_bn: bool) -> nn.Module:
    if not pool_bn:
        return pool
    return nn.Sequential(OrderedDict(pool=pool, bn=nn.BatchNorm2d(channels, affine=affine)))


for _kernel in (3, 5):
    OPERATORS.register(f"sep_conv_{_kernel}x{_kernel}")(partial(sep_conv, kernel=_kernel))
    OPERATORS.register(f"dil_conv_{_kernel}x{_kernel}")(partial(dil_conv, kernel=_kernel))
