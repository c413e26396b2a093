"""Streams of random numbers, each a function of a seed and of where in a training it is drawn."""

from __future__ import annotations

import numpy as np


def stream(seed: int, position: int, number: int = 0, rank: int = 0) -> np.random.Generator:
    """Return the generator of one stream, from its beginning.

    Args:
        seed: of the training.
        position: the epoch or step that draws.
        number: tells apart what is drawn there.
        rank: that draws; 0 for what all ranks draw alike.
    """
    return np.random.default_rng([seed, position, number, rank])


def stream_seed(seed: int, position: int, number: int = 0, rank: int = 0) -> int:
    """Return a seed, of 31 bits, for a generator of another library; see ``stream``."""
    return int(stream(seed, position, number, rank).integers(2**31))
