"""Cross-entropy of classes at many positions, of which some are ignored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from raynas.tasks.class_labels import as_tensor


def dense_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int,
    class_weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Return the weighted mean over positions; 0 where all are ignored, which torch's makes nan.

    Args:
        logits: of shape (n, classes, ...).
        target: classes, shape (n, ...).
        ignore_index: a class that does not count.
        class_weights: of each class; None weighs all alike.
        smoothing: of the labels.
    """
    weight = as_tensor(class_weights, logits)
    target = target.long()
    total = functional.cross_entropy(
        logits,
        target,
        weight,
        ignore_index=ignore_index,
        reduction="sum",
        label_smoothing=smoothing,
    )
    weights = position_weights(target, weight, ignore_index).sum()
    return total / weights.where(weights > 0, torch.ones_like(weights)).to(total.dtype)


def summed(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int,
    class_weights: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """Return a batch's sum of losses and of weights, in float64, as ``loss`` and ``weight``."""
    weight = as_tensor(class_weights, logits)
    losses = functional.cross_entropy(
        logits, target.long(), weight, ignore_index=ignore_index, reduction="none"
    )
    weights = position_weights(target.long(), weight, ignore_index)
    return {"loss": losses.double().sum(), "weight": weights.double().sum()}


def position_weights(target: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor:
    """Return the weight of each position, 0 where it is ignored."""
    counts = target != ignore_index
    if weight is None:
        return counts
    return torch.where(counts, weight[target.where(counts, torch.zeros_like(target))], 0)
