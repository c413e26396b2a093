"""The processes that train one model together: who is who, and the means over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raynas.core.nest import Nest, mapped, taken

_divisor: ContextVar[int] = ContextVar("shared_equally", default=1)


@contextmanager
def shared_equally(numbers: Sequence[int]) -> Iterator[None]:
    """Let trainings that begin inside choose batches as any of these numbers of ranks can share."""
    token = _divisor.set(math.lcm(*numbers))
    try:
        yield
    finally:
        _divisor.reset(token)


class ProcessGroup:
    """This process among those of the default process group; alone if there is none.

    Attributes:
        rank: from 0.
        world: how many there are.
        divisor: what batches divide by, so that the ranks, and any other number of them that may
            go on with the training, have equal shares.
    """

    def __init__(self) -> None:
        self.rank, self.world = 0, 1
        if dist.is_available() and dist.is_initialized():
            self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.divisor = math.lcm(self.world, _divisor.get())

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the ranks, in one flat exchange."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def broadcast(self, model: nn.Module) -> None:
        """Give every rank the first one's parameters and buffers."""
        if self.world > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor.data, 0)

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every rank the first one's buffers, such as the statistics of BatchNorms."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all ranks, of any kind that pickles, on every rank, in order."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """Return the first rank's value, of any kind that pickles, on every rank."""
        values = [value]
        if self.world > 1:
            dist.broadcast_object_list(values, 0)
        return values[0]

    def joined(self, share: Nest) -> Nest:
        """Return a batch of which every rank has ``batch[rank::world]``, all shares being alike."""
        return mapped(self._joined, share)

    def share(self, batch: Nest) -> Nest:
        """Return this rank's share of a batch."""
        return taken(batch, slice(self.rank, None, self.world))

    def _joined(self, share: Tensor) -> Tensor:
        # as bytes, which every backend exchanges
        own = share.reshape(len(share), -1).contiguous().view(torch.uint8)
        shares = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(shares, own)
        whole = torch.stack(shares, 1).flatten(0, 1).view(share.dtype)
        return whole.reshape(-1, *share.shape[1:])

    def check_batch(self, size: int, examples: int) -> None:
        """Raise ValueError unless a batch can be taken, and shared out equally."""
        if size > examples:
            raise ValueError(f"batch_size {size} is larger than the {examples} training examples")
        if size % self.world:
            raise ValueError(f"batch_size {size} does not divide by {self.world} training workers")
