"""What is done with a supernet as choices of it are decided while it trains."""

from __future__ import annotations

from collections.abc import Iterable

from raynas.gradient.relaxation import Relaxation
from raynas.nn.logits import Logits
from raynas.nn.mutable import SKIP
from raynas.supernet.protocol import Training


def full(relaxation: Relaxation, edges: Iterable[Logits]) -> bool:
    """Return whether as many edges of one node are decided as it keeps."""
    routes = [(relaxation.fixed.get(edge.label, SKIP), edge.keep) for edge in edges]
    return sum(route != SKIP for route, _ in routes) >= min(keep for _, keep in routes)


def release(relaxation: Relaxation, training: Training) -> None:
    """Decide what nothing leads to any more, and free the memory of idle weights.

    They keep their shapes, so that checkpoints fit the supernet, and hold zeros.
    """
    labels, weights = relaxation.reachable()
    for label in relaxation.specs:
        if label not in labels and label not in relaxation.fixed:
            relaxation.fix(label, SKIP)
    for weight in training.model.parameters():
        if weight not in weights:
            weight.grad = None
            weight.data = weight.data.new_zeros(()).expand(weight.shape)
            training.optimizer.state.pop(weight, None)
