"""The batch that training-free measures look at."""

from __future__ import annotations

import numpy as np

from raynas.core.nest import Nest
from raynas.data.first_examples import chosen_examples
from raynas.data.module import DataModule
from raynas.data.split import split_of


def training_batch(data: DataModule, size: int, seed: int) -> tuple[Nest, Nest]:
    """Return what a model is called with for some training examples, and their targets.

    They are not augmented, and the same for every architecture.

    Args:
        data: their source.
        size: how many; all if there are fewer.
        seed: fixes which.
    """
    split = split_of(data.load().train)
    order = np.random.default_rng(seed).permutation(len(split))[:size]
    return chosen_examples(data, split, order)
