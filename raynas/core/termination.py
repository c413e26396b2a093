"""SIGTERM ends a run as Ctrl-C does: soon, with all that was told on disk, and in one sentence."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM  # 143, the exit code that shells and schedulers expect
GRACE_S = 8.0  # Ray waits a minute for a server that was terminated too, as SLURM does; 30 kill us


@contextmanager
def terminable() -> Iterator[None]:
    """Take SIGTERM, which Kubernetes, SLURM and ``ray job stop`` send, for Ctrl-C.

    Somebody's own handler of SIGTERM stays, and so does everything outside of the main thread; but
    not the handler that ``ray.init`` leaves, which ends the process on the spot.

    Raises:
        SystemExit: with code 143, in place of the KeyboardInterrupt that SIGTERM led to.
    """
    before = signal.getsignal(signal.SIGTERM)
    free = before is signal.SIG_DFL or str(getattr(before, "__module__", "")).startswith("ray.")
    if not free or threading.current_thread() is not threading.main_thread():
        yield
        return
    received = False

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal received
        if not received:
            limit.start()
        received = True
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell's background jobs ignore Ctrl-C
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    limit = threading.Timer(GRACE_S, _end_at_once)
    limit.daemon = True
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as stop:
        if not received:
            raise
        print(f"stopped by SIGTERM {stop}".strip(), file=sys.stderr)
        raise SystemExit(TERMINATED) from None
    finally:
        limit.cancel()
        signal.signal(signal.SIGTERM, before)


def _end_at_once() -> None:
    """End a process whose own end takes too long; what was told and trained is on disk."""
    print("stopped by SIGTERM; go on with resume=True (--resume)", file=sys.stderr, flush=True)
    os._exit(TERMINATED)
