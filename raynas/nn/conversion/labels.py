"""Labels of channels, and which of them have to stay or go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Parts:
    """Channels that were split into equal parts.

    Attributes:
        labels: shape (parts, size).
        in_turns: whether others may read the parts in turns, as after a shuffle: a channel of each.
    """

    labels: Tensor
    in_turns: bool


NONE = 0  # the label of what belongs to no channel, and is always kept


class Labels:
    """Hands out labels, and remembers which are tied.

    A label tensor has the shape of the tensor that it describes, or of a view that is broadcast to
    it: one whole number for each element.
    """

    def __init__(self) -> None:
        self.count = 1
        self._ties: list[NDArray[np.int64]] = []

    def fresh(self, count: int) -> Tensor:
        """Return new labels, shape (count,)."""
        self.count += count
        return torch.arange(self.count - count, self.count)

    def tie(self, a: Tensor, b: Tensor) -> None:
        """Let labels that stand at one place belong together; ``NONE`` ties nothing."""
        a, b = torch.broadcast_tensors(compact(a), compact(b))
        a, b = compact(a), compact(b)
        a, b = torch.broadcast_tensors(a, b)
        differ = (a != b) & (a != NONE) & (b != NONE)
        if bool(differ.any()):
            low, high = torch.minimum(a, b)[differ], torch.maximum(a, b)[differ]
            keys = np.unique((low * self.count + high).numpy())
            self._ties.append(np.stack(np.divmod(keys, self.count)))

    def merge(self, labels: Tensor) -> None:
        """Let all of these labels belong together."""
        distinct = torch.unique(compact(labels))
        distinct = distinct[distinct != NONE]
        if len(distinct) > 1:
            self.tie(distinct, distinct[:1])

    def tied(self) -> Tensor:
        """Return whether each label is tied to another, shape (count,)."""
        mask = torch.zeros(self.count, dtype=torch.bool)
        for pairs in self._ties:
            mask[torch.from_numpy(pairs).flatten()] = True
        return mask

    def classes(self) -> NDArray[np.int64]:
        """Return the class of every label, shape (count,); that of ``NONE`` is its alone."""
        if not self._ties:
            return np.arange(self.count)
        rows, columns = np.concatenate(self._ties, axis=1)
        graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (self.count, self.count))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def compact(labels: Tensor) -> Tensor:
    """Return labels without the repetitions of a broadcast dimension, of which one stays."""
    for dim, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if stride == 0 and size > 1:
            labels = labels.narrow(dim, 0, 1)
    return labels


def along(labels: Tensor, dim: int) -> Tensor:
    """Return the labels as rows of one dimension, shape (size, others)."""
    return compact(labels.movedim(dim, 0)).flatten(1) if labels.dim() else labels.reshape(1, 1)


def spread(vector: Tensor, shape: Any, dim: int) -> Tensor:
    """Return labels that vary along one dimension of a shape only."""
    sizes = [1] * len(shape)
    sizes[dim] = len(vector)
    return vector.view(sizes).expand(shape)


def differs_along(labels: Tensor, dim: int) -> bool:
    """Return whether labels vary along a dimension."""
    rows = labels.movedim(dim, 0)
    if len(rows) < 2 or labels.stride(dim) == 0:
        return False
    return bool((rows[1:] != rows[:-1]).any())
