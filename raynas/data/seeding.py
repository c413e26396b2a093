"""What random transforms draw: a function of seed, epoch and example, in whatever process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_example(seed: int, epoch: int, index: int) -> None:
    """Seed the global generators of torch, numpy and Python for the reading of one example."""
    words = np.random.SeedSequence([seed, epoch, index]).generate_state(3).tolist()
    torch.default_generator.manual_seed(words[0])  # manual_seed would reseed every GPU too
    np.random.seed(words[1])  # noqa: NPY002 - which users draw from
    random.seed(words[2])


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the global random states of torch (CPU), numpy and Python back as they were."""
    torchs, python = torch.get_rng_state(), random.getstate()
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002 - only kept
    try:
        yield
    finally:
        torch.set_rng_state(torchs)
        random.setstate(python)
        np.random.set_state(numpys)  # noqa: NPY002 - only kept


def random_states() -> tuple[object, ...]:
    """Return the three states in a form that can be compared."""
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002 - which users draw from
    return torch.get_rng_state().numpy().tobytes(), repr(numpys), random.getstate()
