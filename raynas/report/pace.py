"""How fast something goes, and when it will be over."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW = 32  # news that the pace is taken of, so that it follows when things get slower or faster


class Pace:
    """Counts what is done per second, over the latest news.

    >>> now_s = 0.0
    >>> pace = Pace(clock=lambda: now_s)
    >>> pace.update(10), pace.per_s  # what an earlier run did takes no time of this one
    (None, None)
    >>> now_s = 4.0
    >>> pace.update(18), pace.per_s, pace.left_s(58)
    (None, 2.0, 20.0)

    Args:
        clock: seconds from any instant on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._news: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def update(self, done: int, took_s: float | None = None) -> None:
        """Take how many are done by now; that there are no more is no news.

        Args:
            done: in all.
            took_s: seconds of the last of them, if that is known: it stands in for earlier news.
        """
        if self._news and self._news[-1][1] == done:
            return
        now_s = self._clock()
        if not self._news and took_s:
            self._news.append((now_s - took_s, done - 1))
        self._news.append((now_s, done))

    @property
    def per_s(self) -> float | None:
        """How many are done per second; None before the second news."""
        if len(self._news) < 2:
            return None
        (first_s, first), (last_s, last) = self._news[0], self._news[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None

    def left_s(self, total: int) -> float | None:
        """Return the seconds until ``total`` are done; None where the pace is not known."""
        pace = self.per_s
        return None if pace is None else max(total - self._news[-1][1], 0) / pace


def duration(seconds: float) -> str:
    """Return seconds as people read them.

    >>> duration(7.4), duration(200), duration(3 * 3600 + 240), duration(2.5 * 86400)
    ('7 s', '3:20 min', '3:04 h', '60:00 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


def rate(per_s: float, unit: str, *, each: bool) -> str:
    """Return a pace, as so many per second or as seconds for each.

    >>> rate(12.34, "trial", each=False), rate(0.2, "trial", each=False)
    ('12.3 trials/s', '5 s/trial')
    >>> rate(2.0, "epoch", each=True), rate(0.01, "epoch", each=True)
    ('0.5 s/epoch', '1:40 min/epoch')

    Args:
        per_s: how many a second.
        unit: what is counted.
        each: whether seconds for each are meant, however few.
    """
    if not each and per_s >= 1:
        return f"{per_s:.3g} {unit}s/s"
    took_s = 1 / per_s
    return f"{took_s:.2g} s/{unit}" if took_s < 10 else f"{duration(took_s)}/{unit}"
