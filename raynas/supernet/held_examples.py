"""Examples that are used again and again, read once: in memory, or beyond a budget in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raynas.core.nest import Nest, leaves, mapped, zipped
from raynas.data.split import Split

CHUNK = 64  # examples that are read at a time into a file


def read_once(split: Split, index: Sequence[int], most_bytes: int) -> tuple[Nest, Any]:
    """Return inputs and targets of some examples; the data set is not read again for them.

    Inputs that take more than ``most_bytes`` lie in a temporary file that is mapped into memory and
    has no name any more: the system keeps in memory what it has room for.

    Args:
        split: that they are of.
        index: of the examples, in order.
        most_bytes: that inputs may take in memory.
    """
    first, _ = split.some(index[:1])
    if split.in_memory or bytes_of(first) * len(index) <= most_bytes:
        return split.some(index)
    inputs = mapped(lambda leaf: _in_file(leaf, len(index)), first)
    targets = []
    for at in range(0, len(index), CHUNK):
        part, of_part = split.some(index[at : at + CHUNK])
        places = slice(at, at + CHUNK)
        for leaf, given in zip(leaves(inputs), leaves(part), strict=True):
            leaf[places] = given
        targets.append(of_part)
    return inputs, None if targets[0] is None else zipped(torch.cat, targets)


def bytes_of(inputs: Nest) -> int:
    """Return how many bytes a batch takes."""
    return sum(leaf.nbytes for leaf in leaves(inputs))


def _in_file(like: Tensor, count: int) -> Tensor:
    """Return a tensor of ``count`` rows, each like the one given, whose memory is a file."""
    shape = (count, *like.shape[1:])
    size = torch.Size(shape).numel()
    with tempfile.TemporaryDirectory() as folder:  # the mapping lives on without the name
        path = Path(folder) / "examples"
        tensor = torch.from_file(str(path), shared=True, size=size, dtype=like.dtype)
    return tensor.view(shape)
