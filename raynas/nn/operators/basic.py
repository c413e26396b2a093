"""Doing nothing, passing on, and halving: the operators without a kernel."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raynas.nn.narrow import divided
from raynas.nn.operators.layers import check_stride, conv_bn
from raynas.nn.operators.operator_registry import OPERATORS
from raynas.nn.pointwise import PointwiseConv2d


@OPERATORS.register("NIL")
class Zero(nn.Module):
    """Zeros of the right output shape, whatever comes in; the operation that prunes an edge.

    Differs: the zeros are new, where ModularNAS and DARTS (Liu et al., 2019, arXiv:1806.09055)
    multiply by 0, so that NaN and infinity do not come through, nothing is computed, channels may
    change, and the input is not part of the output's graph.

    Args:
        channels_in: input channels; any.
        channels_out: output channels.
        stride: input pixels per output pixel.
    """

    is_none = True  # a Cell mixes it in and never picks it

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.channels_out = channels_out
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros with the dtype and on the device of x."""
        sizes = (-(-size // self.stride) for size in x.shape[2:])
        return x.new_zeros((x.shape[0], self.channels_out, *sizes))

    def narrowed(self, divisor: int) -> Zero:
        """Return zeros of a share of the channels (see ``raynas.nn.narrow``)."""
        thin = copy.deepcopy(self)
        thin.channels_out = divided(self.channels_out, divisor)
        return thin

    def extra_repr(self) -> str:
        """Return what the zeros' shape depends on."""
        return f"channels_out={self.channels_out}, stride={self.stride}"


class FactorizedReduce(nn.Module):
    """Halves height and width by two 1x1 convolutions, one pixel apart, and a BatchNorm.

    The first reads the pixels of even row and column, the second those of odd (Liu et al., 2019,
    arXiv:1806.09055, the authors' code). Each gives half of the output channels.

    Differs: an odd size is padded by zeros at its end for the second convolution, and of an odd
    number of output channels the first convolution gives one more; the authors' fails at both.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        affine: give the BatchNorm weights.
        relu: begin with a ReLU.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, affine: bool = True, relu: bool = True
    ) -> None:
        super().__init__()
        half = channels_out // 2
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.conv_even = PointwiseConv2d(channels_in, channels_out - half, 2)
        # None, since a convolution to no channels cannot be made
        self.conv_odd = PointwiseConv2d(channels_in, half, 2) if half else None
        self.bn = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels_out, ceil(height / 2), ceil(width / 2))."""
        x = self.relu(x)
        parts = [self.conv_even(x)]
        if self.conv_odd is not None:
            rows, columns = x.shape[2] % 2, x.shape[3] % 2
            # a negative pad, since a slice's gradient comes in another memory layout
            parts.append(self.conv_odd(F.pad(x, (-1, columns, -1, rows))))
        out: Tensor = self.bn(torch.cat(parts, 1))
        return out


@OPERATORS.register("IDT")
def identity(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return the identity where the shape is kept, else the cheapest layer that changes it.

    At stride 1 a change of channels takes a 1x1 convolution and BatchNorm; stride 2 takes a
    factorized reduce, ReLU first, as in ModularNAS (Lin et al., 2021, MLSys).

    Differs: ModularNAS halves the resolution whenever the channels change.

    Raises:
        InvalidSpace: a stride above 2.
    """
    check_stride("IDT", stride)
    if stride == 2:
        return FactorizedReduce(channels_in, channels_out)
    if channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(conv_bn(channels_in, channels_out, 1))
