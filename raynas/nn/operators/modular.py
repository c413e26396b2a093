"""ModularNAS' pools and convolutions (Lin et al., 2021, MLSys), under its names.

``AVG``, ``MAX``: 3 x 3 pools; ``AP{k}``, ``MP{k}``: the same with kernel k. ``NC{k}``: convolution.
``SS{k}``: separable convolution; ``SC{k}``: two of them. ``DC{k}``, ``DD{k}``: one with dilation 2
and 3. ``FC{k}``: k x 1 and 1 x k convolution. Kernels k are 3, 5, 7. All order their layers by the
option ``order``: BatchNorm, ReLU, convolution unless told otherwise; pools have no ReLU. The pools
of DARTS, which normalise what comes out, are ``avg_pool_3x3`` and ``max_pool_3x3``.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from raynas.core.errors import InvalidSpace
from raynas.nn.operators.layers import check_equal_channels, separable
from raynas.nn.operators.operator_registry import OPERATORS

ORDER = "bn_act_weight"
Layers = OrderedDict[str, nn.Module]


def avg_pool(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, order: str = ORDER
) -> nn.Module:
    """Return BatchNorm and an average pool that does not count its padding.

    Args:
        channels_in: input channels.
        channels_out: output channels, the same.
        stride: of the pool.
        kernel: its odd size.
        order: of BatchNorm and pool, as in ``weight_bn``; ``act`` has no part in it.

    Raises:
        InvalidSpace: the channels change, or an order that is none.
    """
    check_equal_channels(f"average pool {kernel}x{kernel}", channels_in, channels_out)
    pool = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
    return _ordered(order, channels_in, channels_out, OrderedDict(pool=pool), act=False)


def max_pool(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, order: str = ORDER
) -> nn.Module:
    """Return BatchNorm and a max pool.

    Args:
        channels_in: input channels.
        channels_out: output channels, the same.
        stride: of the pool.
        kernel: its odd size.
        order: of BatchNorm and pool, as in ``weight_bn``; ``act`` has no part in it.

    Raises:
        InvalidSpace: the channels change, or an order that is none.
    """
    check_equal_channels(f"max pool {kernel}x{kernel}", channels_in, channels_out)
    pool = nn.MaxPool2d(kernel, stride, kernel // 2)
    return _ordered(order, channels_in, channels_out, OrderedDict(pool=pool), act=False)


def conv(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, order: str = ORDER
) -> nn.Module:
    """Return a convolution.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the convolution.
        kernel: its odd size.
        order: of BatchNorm, ReLU and convolution, as in ``weight_bn_act``; what it does not name
            is left out.

    Raises:
        InvalidSpace: an order without ``weight``, or with unknown or repeated words.
    """
    weight = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
    return _ordered(order, channels_in, channels_out, OrderedDict(weight=weight))


def separable_conv(
    channels_in: int,
    channels_out: int,
    stride: int,
    *,
    kernel: int,
    dilation: int = 1,
    order: str = ORDER,
) -> nn.Module:
    """Return a depthwise and a 1x1 convolution.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the depthwise convolution.
        kernel: its odd number of taps in each direction.
        dilation: pixels from tap to tap.
        order: of BatchNorm, ReLU and convolutions, as in ``weight_bn_act``; what it does not name
            is left out.

    Raises:
        InvalidSpace: an order without ``weight``, or with unknown or repeated words.
    """
    weight = separable(channels_in, channels_out, kernel, stride, dilation)
    return _ordered(order, channels_in, channels_out, weight)


def two_separable_convs(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, order: str = ORDER
) -> nn.Module:
    """Return two separable convolutions, of which the second changes the channels.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the first depthwise convolution.
        kernel: odd size of both depthwise convolutions.
        order: of BatchNorm, ReLU and convolutions in each, as in ``weight_bn_act``; what it does
            not name is left out.

    Raises:
        InvalidSpace: an order without ``weight``, or with unknown or repeated words.
    """
    first = separable_conv(channels_in, channels_in, stride, kernel=kernel, order=order)
    second = separable_conv(channels_in, channels_out, 1, kernel=kernel, order=order)
    return nn.Sequential(OrderedDict(first=first, second=second))


def factorized_conv(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, order: str = ORDER
) -> nn.Module:
    """Return a convolution of k x 1 pixels, and one of 1 x k that changes the channels.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: of the first, in height and width.
        kernel: odd number k.
        order: of BatchNorm, ReLU and convolutions, as in ``weight_bn_act``; what it does not name
            is left out.

    Raises:
        InvalidSpace: an order without ``weight``, or with unknown or repeated words.
    """
    pad = kernel // 2
    weight: Layers = OrderedDict(
        tall=nn.Conv2d(channels_in, channels_in, (kernel, 1), stride, (pad, 0), bias=False),
        wide=nn.Conv2d(channels_in, channels_out, (1, kernel), 1, (0, pad), bias=False),
    )
    return _ordered(order, channels_in, channels_out, weight)


def _ordered(
    order: str, channels_in: int, channels_out: int, weight: Layers, *, act: bool = True
) -> nn.Module:
    words = order.split("_")
    if "weight" not in words or {*words} - {"bn", "act", "weight"} or len({*words}) < len(words):
        raise InvalidSpace(
            f"order: expected 'weight' with 'bn' and 'act' before or behind it, as in {ORDER!r}, "
            f"got {order!r}"
        )
    layers: Layers = OrderedDict()
    for i, word in enumerate(words):
        if word == "weight":
            layers |= weight
        elif word == "act" and act:
            layers["act"] = nn.ReLU(inplace=i > 0)  # the operator's input is not its own
        elif word == "bn":
            before = i < words.index("weight")
            layers["bn"] = nn.BatchNorm2d(channels_in if before else channels_out)
    return nn.Sequential(layers)


OPERATORS.register("AVG")(partial(avg_pool, kernel=3))
OPERATORS.register("MAX")(partial(max_pool, kernel=3))
for _kernel in (3, 5, 7):
    OPERATORS.register(f"AP{_kernel}")(partial(avg_pool, kernel=_kernel))
    OPERATORS.register(f"MP{_kernel}")(partial(max_pool, kernel=_kernel))
    OPERATORS.register(f"NC{_kernel}")(partial(conv, kernel=_kernel))
    OPERATORS.register(f"SS{_kernel}")(partial(separable_conv, kernel=_kernel))
    OPERATORS.register(f"SC{_kernel}")(partial(two_separable_convs, kernel=_kernel))
    OPERATORS.register(f"DC{_kernel}")(partial(separable_conv, kernel=_kernel, dilation=2))
    OPERATORS.register(f"DD{_kernel}")(partial(separable_conv, kernel=_kernel, dilation=3))
    OPERATORS.register(f"FC{_kernel}")(partial(factorized_conv, kernel=_kernel))
