"""How many threads NumPy's linear algebra computes with, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let linear algebra use one thread, and then as many as before.

    Threads gain nothing on matrices of a few hundred rows. Where workers keep all cores busy, they
    wait for each other: a product of 2 ms takes a second.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Return what knows the libraries that are loaded; to find them takes a millisecond."""
    import numpy as np
    from threadpoolctl import ThreadpoolController

    np.linalg.solve(np.eye(1), np.eye(1))  # so that NumPy's is loaded
    return ThreadpoolController()
