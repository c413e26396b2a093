"""Small nets of super-kernels, on rows of six features."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from raynas.nn.super_kernel import SuperKernel


class KernelNet(nn.Module):
    """Features as an image of two by three pixels, three super-kernels, and logits of 3 classes.

    The first two decide together; the last has no shortcut. ``still`` keeps BatchNorms from using
    the statistics of batches, and dropout from dropping.
    """

    def __init__(self, *, still: bool = False) -> None:
        super().__init__()
        self.still = still
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.body = nn.Sequential(
            SuperKernel(4, 4, 1, label="shared"),
            SuperKernel(4, 4, 1, label="shared"),
            SuperKernel(4, 6, 2, label="last"),
        )
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(6, 3)

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.still)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x.view(-1, 1, 2, 3)))
        logits: Tensor = self.head(self.drop(x.mean((2, 3))))
        return logits


def kernels(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return KernelNet().double()


def still_kernels(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return KernelNet(still=True).double()
