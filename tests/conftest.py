"""What all tests share: one torch thread, one local Ray for the whole session, and who runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, here and in processes of tests

import pytest
import ray
import torch

from raynas.cluster.connect import connected
from raynas.core.config import RayConfig
from tests.distribution import (
    RAY,
    check_alone,
    pytest_configure_node,
    pytest_xdist_make_scheduler,
    write_groups,
)

__all__ = ["pytest_configure_node", "pytest_xdist_make_scheduler"]  # hooks of pytest-xdist

torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let one process run all that takes the shared Ray (`make test`)."""
    for item in items:
        if isinstance(item, pytest.Function) and "local_ray" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(RAY))
    write_groups(items, config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say that tests of GPUs did not run where there is none."""
    if not torch.cuda.is_available():
        terminalreporter.write_line("tests marked gpu did not run: there is no GPU here")


@pytest.fixture(scope="session")
def local_ray(pytestconfig: pytest.Config) -> Iterator[None]:
    """A Ray of two CPUs; every search on Ray in a test that asks for it runs on this one."""
    check_alone(pytestconfig)
    with connected(RayConfig(num_cpus=2)):
        yield


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that ends without Ray: to start one, or to take the shared one, is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Ray was initialised")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
