"""One step on two levels: logits on a validation batch, then weights on a training batch."""

from __future__ import annotations

from collections.abc import Iterator

from raynas.gradient.base import Differentiable
from raynas.gradient.unrolled import unrolled_gradients
from raynas.supernet.protocol import Batch, Metrics


def bilevel_step(
    search: Differentiable,
    train: Batch,
    valid: Iterator[Batch],
    *,
    unrolled: bool = False,
    draws: bool = False,
) -> Metrics:
    """Do DARTS' step (arXiv:1806.09055, algorithm 1): logits first, if any are learned now.

    Args:
        search: the algorithm, attached.
        train: batch of the weights.
        valid: gives the batch of the logits.
        unrolled: take the logits' gradient after one virtual step of the weights.
        draws: let mixtures draw anew for the logits' passes, and for the weights'.
    """
    step = search.training.step
    metrics: Metrics = {}
    search.valid = valid
    if alphas := search.alphas:
        if draws:
            search.relaxation.sample(step, 1)
        batch = next(valid)
        if unrolled:
            loss, gradients = unrolled_gradients(search, train, batch, alphas)
            metrics["valid_loss"] = search.descend(alphas, loss, gradients)
        else:
            metrics["valid_loss"] = search.alpha_step(batch, alphas)
    if draws:
        search.relaxation.sample(step, 0)
    return metrics | {"loss": search.weight_step(train)}
