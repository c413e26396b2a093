"""Operators under ModularNAS' names compute what its own compute, in float64.

The references are written from the published description: BatchNorm, activation, weight; an average
that leaves its padding out; a strided k x 1 convolution, then 1 x k; two 1x1 convolutions a pixel
apart behind a ReLU.
"""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raynas.nn.operators import OPERATORS
from tests.test_operators import rows, settled


def normed(x: Tensor, bn: nn.Module) -> Tensor:
    """Normalise by the statistics of a batch: running ones would commute with an average."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    scaled = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    weight, bias = bn.get_parameter("weight"), bn.get_parameter("bias")
    return scaled * weight[:, None, None] + bias[:, None, None]


def trained(layer: nn.Module) -> nn.Module:
    return settled(layer).train()


def windows(x: Tensor, kernel: int, stride: int, fill: float) -> Tensor:
    """Return the pixels of every window, (batch, channels, rows, columns, kernel ** 2)."""
    pad = kernel // 2
    padded = F.pad(x, (pad, pad, pad, pad), value=fill)
    cut = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)
    return cut.flatten(-2)


def averaged(x: Tensor, kernel: int, stride: int) -> Tensor:
    total = windows(x, kernel, stride, 0.0).sum(-1)
    count = windows(torch.ones_like(x), kernel, stride, 0.0).sum(-1)
    return total / count


def highest(x: Tensor, kernel: int, stride: int) -> Tensor:
    return windows(x, kernel, stride, -torch.inf).amax(-1)


POOLS = {"AVG": (averaged, 3), "MAX": (highest, 3)} | {
    f"{word}{kernel}": (pool, kernel)
    for word, pool in (("AP", averaged), ("MP", highest))
    for kernel in (3, 5, 7)
}


@pytest.mark.parametrize(("name", "stride"), [*itertools.product(POOLS, (1, 2))])
def test_a_pool_normalises_what_goes_in(name: str, stride: int) -> None:
    pool, kernel = POOLS[name]
    layer = trained(OPERATORS[name](4, 4, stride))
    (bn,) = (m for m in layer.modules() if isinstance(m, nn.BatchNorm2d))
    for size in ((8, 8), (9, 7)):
        x = rows(2, 4, *size, dtype=torch.float64)
        expected = pool(normed(x, bn), kernel, stride)
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
        other = normed(pool(x, kernel, stride), bn)
        assert not torch.allclose(expected, other)  # the order matters


@pytest.mark.parametrize(("kernel", "stride"), [*itertools.product((3, 5, 7), (1, 2))])
def test_a_factorized_convolution_strides_at_once(kernel: int, stride: int) -> None:
    layer = trained(OPERATORS[f"FC{kernel}"](4, 6, stride))
    bn, _, tall, wide = layer.children()
    x, pad = rows(2, 4, 9, 8, dtype=torch.float64), kernel // 2
    hidden = F.conv2d(
        normed(x, bn).relu(), tall.get_parameter("weight"), stride=stride, padding=(pad, 0)
    )
    expected = F.conv2d(hidden, wide.get_parameter("weight"), padding=(0, pad))
    assert tall.get_parameter("weight").shape == (4, 4, kernel, 1)
    assert wide.get_parameter("weight").shape == (6, 4, 1, kernel)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_a_strided_identity_begins_with_a_relu() -> None:
    layer = trained(OPERATORS["IDT"](4, 6, 2))
    first, second = (m for m in layer.modules() if isinstance(m, nn.Conv2d))
    (bn,) = (m for m in layer.modules() if isinstance(m, nn.BatchNorm2d))
    x = rows(2, 4, 8, 8, dtype=torch.float64)
    parts = [
        torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], x.relu()[:, :, at::2, at::2])
        for at, conv in enumerate((first, second))
    ]
    expected = normed(torch.cat(parts, 1), bn)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "stride"), [*itertools.product(("NC", "SS", "DC", "DD"), (1, 2))])
def test_a_convolution_normalises_and_activates_what_goes_in(name: str, stride: int) -> None:
    layer = trained(OPERATORS[f"{name}3"](4, 6, stride))
    convs = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
    (bn,) = (m for m in layer.modules() if isinstance(m, nn.BatchNorm2d))
    x = rows(2, 4, 9, 9, dtype=torch.float64)
    y, dilation = normed(x, bn).relu(), {"DC": 2, "DD": 3}.get(name, 1)
    for at, conv in enumerate(convs):
        size = conv.weight.shape[-1]
        y = F.conv2d(
            y,
            conv.weight,
            stride=stride if at == 0 else 1,
            padding=dilation * (size // 2),
            dilation=dilation if size > 1 else 1,
            groups=4 if name != "NC" and at == 0 else 1,
        )
    torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)


def test_pools_take_another_order() -> None:
    kinds = [type(m).__name__ for m in OPERATORS["AP3"](4, 4, 1, order="weight_bn_act").children()]
    assert kinds == ["AvgPool2d", "BatchNorm2d"]
