"""What is wrong with a batch whose loss cannot be computed, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raynas.core.nest import Nest, leaves
from raynas.supernet.mixing import Mixed
from raynas.supernet.protocol import Batch
from raynas.tasks import Task


@contextmanager
def explained(task: Task, batch: Batch) -> Iterator[None]:
    """Say of an IndexError, which PyTorch words for its own programmers, which numbers it is about.

    On a GPU it is none, and ends the process.

    Args:
        task: whose targets the batch has.
        batch: that is computed.

    Raises:
        ValueError: an index is out of range, in inputs or targets.
    """
    try:
        yield
    except IndexError as error:
        inputs, targets = batch
        targets = targets.first if isinstance(targets, Mixed) else targets
        told = [*_range("inputs", inputs), *_range("targets", targets)]
        raise ValueError(
            f"{error}: a class or token beyond what the model is made for? Of this batch "
            f"{', '.join(told) or 'no number is whole'}, of the task {task.name!r}"
        ) from error


def _range(what: str, nest: Nest) -> Iterator[str]:
    for leaf in leaves(nest):
        if isinstance(leaf, Tensor) and leaf.numel() and _whole(leaf):
            yield f"{what} go from {int(leaf.min())} to {int(leaf.max())}"


def _whole(leaf: Tensor) -> bool:
    return not leaf.is_floating_point() and leaf.dtype != torch.bool
