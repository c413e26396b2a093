"""A Ray that only this machine can reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import ray_constants


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that starts here listen on the loopback interface only.

    Ray's ports run code for whoever connects. Where Ray's clusters are switched off, as they are by
    default on macOS and Windows (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER), all its servers bind to
    127.0.0.1; this is that switch.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
