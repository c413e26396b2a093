"""The memory layout of gradients, which decides how fast a backward pass is."""

from __future__ import annotations

import torch
from torch import Tensor


def laid_out(x: Tensor) -> Tensor:
    """Return ``x`` itself, whose gradient will be laid out in memory as it is.

    What splits a gradient, as joining channels does, or spreads one, as a mean does, gives another
    layout: BatchNorm's backward pass is then six times slower on CPUs.
    """
    if x.requires_grad and x.dim() == 4 and not torch.compiler.is_compiling():
        last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))
    return x
