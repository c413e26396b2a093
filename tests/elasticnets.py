"""Small networks of elastic width and depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raynas.nn import BatchNorm1d, Linear, Repeat, ValueChoice

FEATURES, CLASSES = 6, 3
STAGES = [
    {"depth": [2, 3], "width": {"width0": [4, 8]}},
    {"depth": [1, 2, 3], "width": [4, 8], "subnets": 2},
]


class Block(nn.Module):
    """A residual block of 4 or 8 hidden features."""

    def __init__(self, label: str, *, normed: bool) -> None:
        super().__init__()
        width = ValueChoice([4, 8], label=label)
        self.inner = Linear(FEATURES, width)
        self.norm = BatchNorm1d(width) if normed else nn.Identity()
        self.drop = nn.Dropout(0.1 if normed else 0.0)
        self.outer = Linear(width, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's shape."""
        y: Tensor = x + self.outer(self.drop(self.norm(self.inner(x)).relu()))
        return y


class ElasticNet(nn.Module):
    """One to three blocks and a classifier: 2 + 4 + 8 = 14 architectures."""

    def __init__(self, *, normed: bool = True) -> None:
        super().__init__()
        self.blocks = Repeat(
            lambda at: Block(f"width{at}", normed=normed), ValueChoice([1, 2, 3], label="depth")
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (batch, 3)."""
        logits: Tensor = self.head(self.blocks(x))
        return logits


def elastic(seed: int) -> nn.Module:
    """Return one with BatchNorm and dropout, in float64."""
    torch.manual_seed(seed)
    return ElasticNet().double()


def plain_elastic(seed: int) -> nn.Module:
    """Return one whose examples do not meet, in float64."""
    torch.manual_seed(seed)
    return ElasticNet(normed=False).double()
