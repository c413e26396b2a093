"""The five operations of NAS-Bench-201 (Dong & Yang, 2020, arXiv:2001.00326).

Three of them share a name, but not all details, with DARTS' primitives: all are registered with
``nb201_`` in front, and ``NAS_BENCH_201`` has them by the benchmark's own names.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from raynas.nn.operators.basic import FactorizedReduce, Zero
from raynas.nn.operators.darts import ReLUConvBN
from raynas.nn.operators.layers import check_stride
from raynas.nn.operators.operator_registry import OPERATORS, Operator


def none(channels_in: int, channels_out: int, stride: int, *, affine: bool = True) -> nn.Module:
    """Return the operation that gives zeros.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: input pixels per output pixel.
        affine: taken so that all five are made alike; there is no BatchNorm here.
    """
    del affine
    return Zero(channels_in, channels_out, stride)


def skip_connect(
    channels_in: int, channels_out: int, stride: int, *, affine: bool = True
) -> nn.Module:
    """Return the identity where the shape is kept, else what the benchmark puts in its place.

    That is a factorized reduce at stride 2, a 1x1 convolution with BatchNorm at stride 1.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: 1 or 2.
        affine: give the BatchNorm weights.

    Raises:
        InvalidSpace: a stride above 2.
    """
    check_stride("skip_connect of NAS-Bench-201", stride)
    if stride == 2:
        return FactorizedReduce(channels_in, channels_out, affine=affine)
    if channels_in == channels_out:
        return nn.Identity()
    conv = nn.Conv2d(channels_in, channels_out, 1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out, affine=affine)))


def nor_conv(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, affine: bool = True
) -> nn.Module:
    """Return ReLU, convolution, BatchNorm.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the convolution.
        kernel: its odd size.
        affine: give the BatchNorm weights.
    """
    return ReLUConvBN(channels_in, channels_out, kernel=kernel, stride=stride, affine=affine)


def avg_pool_3x3(
    channels_in: int, channels_out: int, stride: int, *, affine: bool = True
) -> nn.Module:
    """Return an average over 3 x 3 pixels, not counting the padding, without BatchNorm behind.

    Where the channels change, ReLU, a 1x1 convolution and BatchNorm stand before the pool.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the pool.
        affine: give that BatchNorm weights.
    """
    pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if channels_in == channels_out:
        return pool
    before = ReLUConvBN(channels_in, channels_out, affine=affine)
    return nn.Sequential(OrderedDict(before=before, pool=pool))


NAS_BENCH_201: dict[str, Operator] = {
    "none": none,
    "skip_connect": skip_connect,
    "nor_conv_1x1": partial(nor_conv, kernel=1),
    "nor_conv_3x3": partial(nor_conv, kernel=3),
    "avg_pool_3x3": avg_pool_3x3,
}

for _name, _operator in NAS_BENCH_201.items():
    OPERATORS.register(f"nb201_{_name}")(_operator)
