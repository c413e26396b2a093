"""A user's own model with choices, small enough to train in a test."""

from __future__ import annotations

from torch import Tensor, nn

from raynas.nn import LayerChoice


def conv(channels_in: int, kernel: int) -> nn.Module:
    """Convolution, BatchNorm, ReLU."""
    layer = nn.Conv2d(channels_in, 8, kernel, padding=kernel // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(8), nn.ReLU())


class ToyNet(nn.Module):
    """Three choices between kernels, on grey images: 2 * 3 * 3 = 18 architectures."""

    def __init__(self) -> None:
        super().__init__()
        self.first = LayerChoice({"k3": conv(1, 3), "k5": conv(1, 5)}, label="first")
        self.second = LayerChoice([conv(8, k) for k in (1, 3, 5)])
        self.third = LayerChoice([conv(8, k) for k in (1, 3, 5)])
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (batch, 10)."""
        x = self.third(self.second(self.first(x)))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits
