"""What all tests share: one local Ray for the whole session, and one torch thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from raynas.cluster.connect import connected
from raynas.core.config import RayConfig


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two CPUs; every search in a test that asks for it runs on this one."""
    with connected(RayConfig(num_cpus=2)):
        yield
