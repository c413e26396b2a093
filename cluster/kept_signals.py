"""Signal handlers that Ray's core replaces while it connects."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_sigterm() -> Iterator[None]:
    """Put the handler of SIGTERM back, in any thread.

    Ray's core takes SIGTERM for a crash: it prints its stack and aborts the process. Python's own
    ``signal.signal`` works in the main thread only, and Ray starts in another.
    """
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.restype = put.restype = ctypes.c_void_p
    put.argtypes = [ctypes.c_int, ctypes.c_void_p]
    before = get(signal.SIGTERM)
    try:
        yield
    finally:
        put(signal.SIGTERM, before)
