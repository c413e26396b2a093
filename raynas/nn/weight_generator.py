"""The network that turns an architecture's encoding into weights.

Brock, Lim, Ritchie and Weston, 2017, arXiv:1708.05344 (SMASH): DenseNet-shaped, of
weight-normalised convolutions and leaky ReLUs, without BatchNorm and without pooling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.02  # of the leaky ReLUs (ours)


class NormedConv2d(nn.Module):
    """A convolution whose filters have learned lengths (Salimans and Kingma, arXiv:1602.07868).

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel_size: height and width, odd; the size is kept.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__()
        direction = torch.empty(channels_out, channels_in, kernel_size, kernel_size)
        nn.init.kaiming_normal_(direction, a=SLOPE)
        self.direction = nn.Parameter(direction)
        self.length = nn.Parameter(_lengths(direction).detach().clone())
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution, shape (batch, channels_out, height, width)."""
        weight = self.direction * (self.length / _lengths(self.direction))
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


class WeightGenerator(nn.Module):
    """Dense blocks of 3x3 convolutions, a 1x1 convolution behind each.

    Args:
        channels_in: of the encoding.
        channels_out: numbers per place of the encoding.
        growth: channels that a layer adds.
        layers: of each block.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, growth: int, layers: Sequence[int]
    ) -> None:
        super().__init__()
        width = 2 * growth
        self.stem = NormedConv2d(channels_in, width, 3)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for at, count in enumerate(layers):
            block = [NormedConv2d(width + i * growth, growth, 3) for i in range(count)]
            self.blocks.append(nn.ModuleList(block))
            width += count * growth
            last = at == len(layers) - 1
            narrow = channels_out if last else width // 2
            self.transitions.append(NormedConv2d(width, narrow, 1))
            width = narrow

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers of shape (1, channels_out, height, width)."""
        x = self.stem(x)
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            assert isinstance(block, nn.ModuleList)
            for layer in block:
                x = torch.cat([x, layer(functional.leaky_relu(x, SLOPE))], 1)
            x = transition(functional.leaky_relu(x, SLOPE))
        return x


def _lengths(weight: Tensor) -> Tensor:
    lengths: Tensor = weight.flatten(1).norm(dim=1)
    return lengths[:, None, None, None]
