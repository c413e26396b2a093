"""The queue between an evaluating process and the ranks that train for it."""

from __future__ import annotations

import asyncio

Order = tuple[str, int]  # an architecture as JSON, and a seed
Outcome = dict[str, float] | str | None

IDLE_S = 20.0  # how long a job keeps its processors without an order, or a permit to go on


class WorkQueue:
    """Hands orders to all ranks of a training job, and their results to who ordered.

    Ranks must do the same, or one waits for the others in an exchange of gradients for ever; so it
    is decided here alone, once for all of them, whether the job takes another order, and whether a
    training goes on after an epoch. A job without orders ends after a while, and so does one whose
    training was stopped without a word, as Tune does where no trial follows: its processors may be
    what another one waits for.
    """

    def __init__(self, ranks: int, idle_s: float = IDLE_S) -> None:
        self._orders = [asyncio.Queue[Order | None]() for _ in range(ranks)]
        self._permits = [asyncio.Queue[bool]() for _ in range(ranks)]
        self._results = asyncio.Queue[Outcome]()
        self._idle_s, self._idle = idle_s, asyncio.Event()
        self._waiting_ranks, self._closed = 0, False
        self._nodes: set[str] = set()
        self._closing: asyncio.TimerHandle | None = None

    async def begin(self, node: str) -> None:
        """Note that a rank is on a node."""
        self._nodes.add(node)

    async def nodes(self) -> list[str]:
        """Return the nodes of all ranks that have begun."""
        return sorted(self._nodes)

    async def ready(self) -> bool:
        """Return whether all ranks wait for an order, once they do; False if the job ends."""
        await self._idle.wait()
        self._await_order()
        return not self._closed

    async def submit(self, order: Order | None) -> bool:
        """Ask for a training and return True, unless the job ends; None ends it."""
        taken = not self._closed
        if taken:
            self._hand_out(order)
        return taken

    async def next_order(self, rank: int) -> Order | None:
        """Return a rank's next order; each asks for itself, and none waits in an exchange."""
        self._waiting_ranks += 1
        if self._waiting_ranks == len(self._orders):
            self._idle.set()
            self._await_order()
        return await self._orders[rank].get()

    async def put_result(self, result: Outcome) -> None:
        """Hand over an epoch's metrics; text says what went wrong, None that there are no more."""
        self._results.put_nowait(result)
        if isinstance(result, dict):
            self._await_order()

    async def next_result(self) -> Outcome:
        """Return what was handed over next."""
        return await self._results.get()

    async def go_on(self, go: bool) -> None:
        """Let the training go on, or end it."""
        self._stop_timer()
        for queue in self._permits:
            queue.put_nowait(go)

    async def goes_on(self, rank: int) -> bool:
        """Return whether a rank is to go on."""
        return await self._permits[rank].get()

    async def over(self, failure: str) -> None:
        """Note that the job has ended."""
        self._results.put_nowait(failure)
        self._closed = True
        self._idle.set()

    def _await_order(self) -> None:
        """End the job unless an order, or a permit, comes within ``idle_s`` from now."""
        self._stop_timer()
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(self._idle_s, self._hand_out, None)

    def _stop_timer(self) -> None:
        if self._closing is not None:
            self._closing.cancel()

    def _hand_out(self, order: Order | None) -> None:
        self._stop_timer()
        self._waiting_ranks, self._closed = 0, order is None
        if self._closed:
            for permits in self._permits:
                permits.put_nowait(False)
        else:
            self._idle.clear()
        for queue in self._orders:
            queue.put_nowait(order)
