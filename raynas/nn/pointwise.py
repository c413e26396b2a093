"""1x1 convolutions at a stride, without oneDNN's gradient of their weights, which is faulty.

For less than 16 input channels (8 without AVX-512) that are last in memory, it writes outside of
its buffer (oneDNN 3.12, which torch 2.14 has; issue 6035 of oneDNN). A 1x1 convolution at a stride
is one without a stride, of the pixels that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LANES = 16  # channels from which on no machine's gradient is wrong


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution without bias.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: input pixels per output pixel.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels_out, ceil(height / stride), ceil(width / stride)).

        Args:
            x: shape (batch, channels_in, height, width).
        """
        return conv2d(x, self.weight, self.bias, self.stride, self.padding)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Return what ``torch.nn.functional.conv2d`` does, computed so that its gradient is right."""
    if (
        x.device.type == "cpu"
        and _faulty(weight.shape, stride, padding, groups)
        and torch.is_grad_enabled()
        and weight.requires_grad
        and not torch.compiler.is_exporting()
    ):
        # The mean of one pixel is that pixel; unlike a slice's, its gradient keeps the layout.
        x, stride = functional.avg_pool2d(x, 1, stride), 1
    return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)


def overruns(layer: nn.Module) -> bool:
    """Return whether a layer calls PyTorch's own convolution where its gradient is faulty."""
    if not isinstance(layer, nn.Conv2d) or type(layer).forward is not nn.Conv2d.forward:
        return False
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
    return _faulty(shape, layer.stride, layer.padding, layer.groups)


def _faulty(weight: Sequence[int], stride: Any, padding: Any, groups: int) -> bool:
    few = weight[1] < LANES and tuple(weight[2:]) == (1, 1) and groups == 1
    return few and (padding == "valid" or _all(padding, 0)) and not _all(stride, 1)


def _all(sizes: Any, size: int) -> bool:
    return all(s == size for s in (sizes if isinstance(sizes, list | tuple) else [sizes]))
