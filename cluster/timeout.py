"""Ending evaluations that take too long."""

from __future__ import annotations

import asyncio
from typing import Any

import ray


class EvaluationTimeout:
    """Ends processes whose evaluation takes too long, and remembers whose these were."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._late: set[str] = set()

    async def ready(self) -> None:
        """Return once this process runs: what begins before would have no limit."""

    async def began(self, arch: str, worker: Any, seconds: float) -> None:
        """Give ``worker`` so many seconds from now for an architecture."""
        self._forget(arch)
        self._waiting[arch] = asyncio.create_task(self._end(arch, worker, seconds))

    async def over(self, arch: str) -> None:
        """Note that it was in time."""
        self._forget(arch)

    async def late(self, archs: list[str]) -> list[str]:
        """Return which of a lost batch took too long, and forget them all."""
        for arch in archs:
            self._forget(arch)
        late = [arch for arch in archs if arch in self._late]
        self._late.difference_update(late)
        return late

    async def _end(self, arch: str, worker: Any, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._late.add(arch)
        ray.kill(worker)

    def _forget(self, arch: str) -> None:
        task = self._waiting.pop(arch, None)
        if task is not None:
            task.cancel()
