"""The batch that training-free measures look at."""

from __future__ import annotations

import numpy as np
import torch

from raynas.data.module import DataModule, Examples


def training_batch(data: DataModule, size: int, seed: int) -> Examples:
    """Return ``size`` training examples, not augmented, the same for every architecture.

    Args:
        data: their source.
        size: how many; all if there are fewer.
        seed: fixes which.
    """
    x, y = data.load().train
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(y))[:size]).to(y.device)
    return x[order], y[order]
