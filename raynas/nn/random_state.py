"""The random states of a process, lent to one piece of code and then put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Let code draw from ``seed``, and leave the global random states as they were.

    These are torch's on the CPU and on the device, numpy's and Python's own.

    Args:
        device: whose state is lent beside the CPU's.
        seed: of all of them.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _states_kept():
        torch.default_generator.manual_seed(seed)  # manual_seed would reseed every GPU too
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - users' layers may draw from it
        yield


@contextmanager
def _states_kept() -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - only kept
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002 - only kept
