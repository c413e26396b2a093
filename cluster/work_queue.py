"""Where an evaluating process and the ranks that train for it meet."""

from __future__ import annotations

import asyncio

Order = tuple[str, int]  # an architecture as JSON, and a seed
Answer = dict[str, float] | str | None

IDLE_S = 20.0  # how long a job keeps its processors without an order, or leave to go on


class WorkQueue:
    """Where the evaluating process and the ranks meet.

    It alone decides whether the job takes another order, so that all ranks get the same answer.
    A job without orders ends after a while, and so does one whose training was stopped without a
    word, as Tune does where no trial follows: its processors may be what another one waits for.
    """

    def __init__(self, ranks: int, idle_s: float = IDLE_S) -> None:
        self._orders = [asyncio.Queue[Order | None]() for _ in range(ranks)]
        self._leaves = [asyncio.Queue[bool]() for _ in range(ranks)]
        self._answers = asyncio.Queue[Answer]()
        self._idle_s, self._idle = idle_s, asyncio.Event()
        self._waiting, self._closed = 0, False
        self._closing: asyncio.TimerHandle | None = None

    async def ready(self) -> bool:
        """Return whether all ranks wait for an order, once they do; False if the job ends."""
        await self._idle.wait()
        self._rest()
        return not self._closed

    async def order(self, order: Order | None) -> bool:
        """Ask for a training and return True, unless the job ends; None ends it."""
        taken = not self._closed
        if taken:
            self._hand_out(order)
        return taken

    async def ordered(self, rank: int) -> Order | None:
        """Return a rank's next order; each asks for itself, and none waits in an exchange."""
        self._waiting += 1
        if self._waiting == len(self._orders):
            self._idle.set()
            self._rest()
        return await self._orders[rank].get()

    async def tell(self, told: Answer) -> None:
        """Hand over an epoch's metrics; text says what went wrong, None that there are no more."""
        self._answers.put_nowait(told)
        if isinstance(told, dict):
            self._rest()

    async def told(self) -> Answer:
        """Return what was handed over next."""
        return await self._answers.get()

    async def leave(self, go: bool) -> None:
        """Let the training go on, or end it."""
        self._stir()
        for queue in self._leaves:
            queue.put_nowait(go)

    async def left(self, rank: int) -> bool:
        """Return whether a rank is to go on."""
        return await self._leaves[rank].get()

    async def over(self, failure: str) -> None:
        """Note that the job has ended."""
        self._answers.put_nowait(failure)
        self._closed = True
        self._idle.set()

    def _rest(self) -> None:
        """End the job unless an order, or leave, comes within ``idle_s`` from now."""
        self._stir()
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(self._idle_s, self._hand_out, None)

    def _stir(self) -> None:
        if self._closing is not None:
            self._closing.cancel()

    def _hand_out(self, order: Order | None) -> None:
        self._stir()
        self._waiting, self._closed = 0, order is None
        if self._closed:
            for leaves in self._leaves:
                leaves.put_nowait(False)
        else:
            self._idle.clear()
        for queue in self._orders:
            queue.put_nowait(order)
