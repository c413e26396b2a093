"""Depthwise convolutions of dilation 2, whose gradients are computed without dilation.

A kernel of dilation 2 reads pixels of one parity of rows and of columns for one output pixel: on
the four images of such pixels, it is a kernel without dilation. The backward passes of torch 2.15
for dilated kernels are 3 to 40 times slower than these on CPUs, with channels last.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight


class PolyphaseConv2d(nn.Conv2d):
    """A depthwise convolution of dilation 2 without bias, padded for equal size at stride 1.

    Outputs are those of ``nn.Conv2d``, bit for bit; gradients agree up to rounding.

    Args:
        channels: of input and output.
        kernel: odd number of its taps in each direction.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        padding = 2 * (kernel // 2)
        super().__init__(
            channels, channels, kernel, stride, padding, 2, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels, ceil(height / stride), ceil(width / stride)).

        Args:
            x: shape (batch, channels, height, width).
        """
        if not self._is_faster(x):
            return super().forward(x)
        stride, needed = self.stride[0], self.weight.requires_grad
        link = _WeightGradient.apply(self.weight, (x,), stride) if needed else None
        y: Tensor = _Convolution.apply(x, self.weight, stride, link)
        return y

    def _is_faster(self, x: Tensor) -> bool:
        """Return whether there will be a backward pass that is faster so."""
        return (
            x.device.type == "cpu"
            and torch.is_grad_enabled()
            and (x.requires_grad or self.weight.requires_grad)
            and x.dim() == 4
            and x.is_contiguous(memory_format=torch.channels_last)
            and self.stride in ((1, 1), (2, 2))
            and not torch.is_autocast_enabled("cpu")  # which keeps dilated ones in float32
            and not torch.compiler.is_compiling()
        )


class _WeightGradient(torch.autograd.Function):
    """Stands between a convolution and its weight, without a value of its own.

    The input is no input of this node, so that passes for which the weight's gradient is not asked
    (logits' steps) leave it out. It is saved with its history: gradients are differentiable.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, held: tuple[Tensor], stride: int) -> Tensor:
        (x,) = held
        ctx.save_for_backward(x)
        ctx.shape, ctx.stride = weight.shape, stride
        n, c, h, w = x.shape
        return x.new_zeros(()).expand(n, c, -(-h // stride), -(-w // stride))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        ((g,), (x,)) = gradients, ctx.saved_tensors
        groups, kernel, dilation = ctx.shape[0], ctx.shape[-1], 1
        if ctx.stride == 2:
            x = x[:, :, ::2, ::2]
        elif x.shape[2] % 2 or x.shape[3] % 2:
            dilation = 2
        else:
            x, g = _apart(x), _apart(g)
        padding = dilation * (kernel // 2)
        return conv2d_weight(x, ctx.shape, g, 1, padding, dilation, groups), None, None


class _Convolution(torch.autograd.Function):
    """The convolution; its input's gradient is one with the kernel turned by half a circle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, _link: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride = x.shape, stride
        padding = 2 * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, None, stride, padding, 2, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        ((g,), (weight,)) = gradients, ctx.saved_tensors
        grad_x, g = None, g.contiguous(memory_format=torch.channels_last)
        if ctx.needs_input_grad[0]:
            dilation = 1 if ctx.stride == 2 else 2
            padding = dilation * (weight.shape[-1] // 2)
            grad_x = F.conv2d(g, weight.flip(2, 3), None, 1, padding, dilation, len(weight))
        if grad_x is not None and ctx.stride == 2:  # only even pixels were read
            n, c, h, w = ctx.shape
            whole = g.new_zeros((n, h, w, c)).permute(0, 3, 1, 2)
            whole[:, :, ::2, ::2] = grad_x
            grad_x = whole
        return grad_x, None, None, g


def _apart(x: Tensor) -> Tensor:
    """Return the four images of every second pixel, shape (4 * batch, channels, ...)."""
    pixels = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    images: Tensor = pixels.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)
    return images.permute(0, 3, 1, 2)
