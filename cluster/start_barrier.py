"""Letting workers begin together."""

from __future__ import annotations

import time
import uuid

from ray.experimental import internal_kv

WAIT_S = 20.0  # how long the first workers wait for the last
POLL_S = 0.02


class StartBarrier:
    """Lets workers begin together.

    Tune hands the process of a finished trial to the trial that still waits for its own to start,
    and cancels that start: where trials are short, the first worker would do all of them.

    It travels to the workers, which meet in the key-value store of the cluster's head: an actor
    would take a process, whose start one of them waits for.

    Args:
        workers: how many are to come.
    """

    def __init__(self, workers: int) -> None:
        self._workers, self._place = workers, f"raynas-barrier-{uuid.uuid4().hex}/"

    def arrive(self, worker: str) -> None:
        """Return when all workers have come, or some time has passed.

        Args:
            worker: tells it from the others.
        """
        if self._workers == 1:
            return
        internal_kv._internal_kv_put(self._place + worker, b"")
        until_s = time.monotonic() + WAIT_S
        while not self._is_open() and time.monotonic() < until_s:
            time.sleep(POLL_S)
        internal_kv._internal_kv_put(f"{self._place}open", b"")

    def clear(self) -> None:
        """Forget who came."""
        internal_kv._internal_kv_del(self._place, del_by_prefix=True)

    def _is_open(self) -> bool:
        come = internal_kv._internal_kv_list(self._place)
        return len(come) >= self._workers or f"{self._place}open".encode() in come
