"""How many architectures a worker is sent at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LARGEST = 32
TARGET_S = 0.3
PER_FLYING = 8  # told trials for each that may be in flight (ours: a tenth more queries)
LOAD = 0.8  # share of the driver's time that batches may take; beyond it workers wait for theirs


@dataclass
class BatchSize:
    """Grows a worker's batch until dispatch costs little, without letting the sampler fly blind.

    The size is at most what fits into ``target_s``, ``LARGEST``, and twice the last one; beyond one
    for each worker, no more are in flight than an eighth of what was told. First asks that no tell
    can change (``startup``) are exempt from that. So are batches that one driver cannot hand out
    as fast as so many workers evaluate them: more workers than that would only wait.

    Args:
        workers: how many workers are asked for.
        startup: first asks that do not depend on tells; None if none ever does.
        fixed: always this size, whatever is measured.
        target_s: how long a batch may take.
    """

    workers: int
    startup: int | None = 0
    fixed: int | None = None
    target_s: float = TARGET_S
    _last: int = field(default=0, init=False)
    _seconds: float | None = field(default=None, init=False)
    _batch_s: float = field(default=0.0, init=False)
    _arch_s: float = field(default=0.0, init=False)

    def measured(self, seconds: float, count: int) -> None:
        """Learn how long the evaluations of a batch of ``count`` took."""
        each = max(seconds, 0.0) / max(count, 1)
        self._seconds = each if self._seconds is None else 0.7 * self._seconds + 0.3 * each

    def handled(self, batch_s: float, arch_s: float) -> None:
        """Learn what handing out and taking back a batch costs the driver.

        Args:
            batch_s: whatever its size.
            arch_s: besides, for each of its architectures.
        """
        self._batch_s = 0.9 * self._batch_s + 0.1 * batch_s
        self._arch_s = 0.9 * self._arch_s + 0.1 * arch_s

    def next(self, asked: int, told: int) -> int:
        """Return the next batch's size, at least 1."""
        if self.fixed is not None:
            return self.fixed
        wanted = max(min(self._informed(asked, told), self._timely()), self._bearable())
        self._last = max(min(wanted, LARGEST, 2 * self._last), 1)
        return self._last

    def _informed(self, asked: int, told: int) -> int:
        if self.startup is None:
            return LARGEST
        free = math.ceil((self.startup - asked) / self.workers)
        return max(told // (PER_FLYING * self.workers), free)

    def _bearable(self) -> int:
        """Return how many it takes for the driver to keep up, where evaluations are not cheap.

        Where it cannot, since each architecture costs it too much, as a slow sampler's does, a
        batch may cost as much again as half of its architectures, and no less.
        """
        if self._seconds is None or self._seconds < self.target_s:
            return 1
        spare_s = LOAD * self._seconds / self.workers - self._arch_s
        return math.ceil(self._batch_s / max(spare_s, self._arch_s / 2))

    def _timely(self) -> int:
        if self._seconds is None:
            return 1
        return int(min(self.target_s / self._seconds, LARGEST)) if self._seconds > 0 else LARGEST
