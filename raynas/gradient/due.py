"""When logits are updated between the steps of the weights."""

from __future__ import annotations

from raynas.supernet.protocol import Training


def is_due(training: Training, every: int | None) -> bool:
    """Return whether the logits are updated at this step.

    Args:
        training: says which step it is.
        every: weight steps between updates; None spreads one pass over the validation split over
            the steps of an epoch, where it has no more batches than these.
    """
    if every is not None:
        return (training.step + 1) % every == 0
    steps = training.steps // training.epochs
    interval = max(steps / training.valid_steps, 1.0)
    at = training.step % steps
    return int((at + 1) / interval) > int(at / interval)
