"""Letting workers begin together."""

from __future__ import annotations

import asyncio
import contextlib

GATE_S = 20.0  # how long the first workers wait for the last


class StartBarrier:
    """Lets workers begin together.

    Tune hands the process of a finished trial to the trial that still waits for its own to start,
    and cancels that start: where trials are short, the first worker would do all of them.
    """

    def __init__(self, workers: int) -> None:
        self._missing, self._open = workers, asyncio.Event()

    async def arrive(self) -> None:
        """Return when all workers have come, or some time has passed."""
        self._missing -= 1
        if self._missing <= 0:
            self._open.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._open.wait(), GATE_S)
        self._open.set()
