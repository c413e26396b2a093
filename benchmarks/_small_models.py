"""The small models that benchmarks of conversion train and make smaller."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

CONTEXT, TOKENS = 64, 64  # characters that a text's model sees, and that it tells apart


class Block(nn.Module):
    """Two convolutions and a residual sum."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inner != outer:
            conv = nn.Conv2d(inner, outer, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of shape (batch, outer, height / stride, width / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """Three stages of two blocks, of 16, 32 and 64 channels; output logits of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        blocks, inner = [], 16
        for outer in (16, 32, 64):
            blocks += [Block(inner, outer, 1 if outer == 16 else 2), Block(outer, outer, 1)]
            inner = outer
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, 10).

        Args:
            x: shape (batch, 1, height, width).
        """
        logits: Tensor = self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))
        return logits


class Attention(nn.Module):
    """Causal attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each position gathers, of the shape of ``x``."""
        batch, length = x.shape[:2]
        split = (batch, length, self.heads, self.size)
        q, k, v = (part(x).view(split).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        out: Tensor = self.out(y.reshape(batch, length, self.heads * self.size))
        return out


class Layer(nn.Module):
    """Attention and an MLP, each of which is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return states of the shape of ``x``."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class SmallGPT(nn.Module):
    """Three layers of 64 channels and 8 heads."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, 64), nn.Embedding(CONTEXT, 64)
        self.layers = nn.Sequential(*(Layer(64, 8) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits of shape (batch, T, tokens).

        Args:
            ids: shape (batch, T).
        """
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        logits: Tensor = self.head(self.norm(self.layers(x)))
        return logits
