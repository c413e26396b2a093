"""Training images mixed with others, or with a square cut out of them.

Zhang et al., 2018, arXiv:1710.09412 (mixup); Yun et al., 2019, arXiv:1905.04899 (CutMix); DeVries
and Taylor, 2017, arXiv:1708.04552 (Cutout).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raynas.core.nest import Nest, leaves, mapped
from raynas.core.train_settings import TrainSettings


@dataclass(frozen=True)
class Mixed:
    """Targets of mixed examples, whose loss is the weighted mean of both losses.

    Attributes:
        first: of the examples.
        second: of those that were mixed in.
        share: of the first, from 0 to 1.
    """

    first: Nest
    second: Nest
    share: float

    def mapped(self, function: Callable[[Nest], Nest]) -> Mixed:
        """Return what a function makes of both; where there are no targets, there are none."""
        if self.first is None:
            return self
        return Mixed(function(self.first), function(self.second), self.share)


def mixes(settings: TrainSettings) -> bool:
    """Return whether examples, and with them their targets, are mixed."""
    return settings.mixup > 0 or settings.cutmix > 0


def mixed_and_cut(
    inputs: Nest, targets: Nest, settings: TrainSettings, rng: np.random.Generator
) -> tuple[Nest, Any]:
    """Return a batch as the settings have it mixed and cut: targets may be ``Mixed``.

    Args:
        inputs: of a batch.
        targets: of it.
        settings: whose ``mixup``, ``cutmix`` and ``cutout`` count.
        rng: draws.
    """
    if settings.cutout:
        inputs = mapped(lambda x: _cut(x, settings.cutout, rng), inputs)
    alphas = {"mixup": settings.mixup, "cutmix": settings.cutmix}
    kinds = [kind for kind, alpha in alphas.items() if alpha > 0]
    if not kinds:
        return inputs, targets
    kind = kinds[int(rng.integers(len(kinds)))]
    share = float(rng.beta(alphas[kind], alphas[kind]))
    count = len(next(leaves(inputs)))
    other = torch.from_numpy(rng.permutation(count))
    second = None if targets is None else mapped(lambda t: t[other.to(t.device)], targets)
    if kind == "mixup":
        inputs = mapped(lambda x: _blended(x, x[other.to(x.device)], share), inputs)
        return inputs, Mixed(targets, second, share)
    inputs, share = _pasted(inputs, other, share, rng)
    return inputs, Mixed(targets, second, share)


def _blended(x: Tensor, y: Tensor, share: float) -> Tensor:
    return share * x + (1 - share) * y if x.is_floating_point() else x


def _pasted(
    inputs: Nest, other: Tensor, share: float, rng: np.random.Generator
) -> tuple[Nest, float]:
    """Paste a patch of other images, and return the share of pixels that stayed."""
    centre = rng.random(2)
    kept: list[float] = []

    def paste(x: Tensor) -> Tensor:
        if not _is_image(x):
            return x
        height, width = x.shape[2:]
        side = math.sqrt(1 - share)
        top, bottom = _range(centre[0], side, height)
        left, right = _range(centre[1], side, width)
        x = x.clone()
        x[:, :, top:bottom, left:right] = x[other.to(x.device), :, top:bottom, left:right]
        kept.append(1 - (bottom - top) * (right - left) / (height * width))
        return x

    pasted = mapped(paste, inputs)
    return pasted, kept[0]


def _range(centre: float, share: float, length: int) -> tuple[int, int]:
    """Return where a patch begins and ends; what lies beyond the image is cut off."""
    middle, half = int(centre * length), int(share * length / 2)
    return max(middle - half, 0), min(middle + half, length)


def _cut(x: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Set a square of each image to 0, its centre drawn uniformly over all pixels."""
    if not _is_image(x):
        return x
    count, _, height, width = x.shape
    centres = torch.from_numpy(rng.integers(0, [height, width], (count, 2))).to(x.device)
    rows = torch.arange(height, device=x.device)[None, :, None]
    columns = torch.arange(width, device=x.device)[None, None, :]
    top, left = (centres - side // 2).T[:, :, None, None]
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return x.masked_fill(inside[:, None], 0.0)


def _is_image(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_floating_point()


def check_mixing(settings: TrainSettings, inputs: Nest, *, in_model: bool) -> None:
    """Raise ValueError where examples cannot be mixed or cut as the settings ask.

    Args:
        settings: of the training.
        inputs: of a batch.
        in_model: whether the model computes the loss, of one target for each example.
    """
    names = [name for name in ("mixup", "cutmix") if getattr(settings, name)]
    if names and in_model:
        raise ValueError(f"{names[0]}: the model computes its own loss, of targets that cannot mix")
    images = [x for x in leaves(inputs) if _is_image(x)]
    for name in ("cutmix", "cutout"):
        if getattr(settings, name) and not images:
            raise ValueError(f"{name} is for images of shape (batch, channels, height, width)")
    if settings.mixup and not any(x.is_floating_point() for x in leaves(inputs)):
        raise ValueError("mixup needs inputs of floating point, and these are whole numbers")
