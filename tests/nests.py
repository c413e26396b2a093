"""Whether two nests of tensors are the same, to the last bit."""

from __future__ import annotations

import torch

from raynas.core.nest import Nest, paths


def same(nest: Nest, other: Nest) -> bool:
    """Return whether structure, types and numbers are equal; lists and tuples are alike."""
    mine, others = list(paths(nest)), list(paths(other))
    if [at for at, _ in mine] != [at for at, _ in others]:
        return False
    pairs = zip(mine, others, strict=True)
    return all(x is y or _equal(x, y) for (_, x), (_, y) in pairs)


def _equal(x: object, y: object) -> bool:
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
        return False
    return x.dtype == y.dtype and torch.equal(x, y)
