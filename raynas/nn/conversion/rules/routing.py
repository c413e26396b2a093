"""Choices among parts, as experts: rows go to some of them and are added up again."""

from __future__ import annotations

import torch
from torch import Tensor

from raynas.nn.conversion.labels import NONE
from raynas.nn.conversion.operation import Operation
from raynas.nn.conversion.rules.registry import or_none, rule
from raynas.nn.conversion.trace import Trace


@rule("topk")
def largest(trace: Trace, op: Operation) -> None:
    """How many there are to choose from stays; what is chosen belongs to none of them."""
    trace.freeze(trace.of(op.args[0]), "some of it are chosen by their size")


@rule("index_add index_add_ scatter_add scatter_add_")
def added_rows(trace: Trace, op: Operation) -> None:
    """Rows are added to others, whichever these are: channels of both belong together."""
    target, dim = op.args[0], op.argument(1, "dim")
    source = op.argument(3, "source" if op.name.startswith("index") else "src")
    given = _of_rows(or_none(trace, source), dim, target)
    own = _of_rows(or_none(trace, target), dim, target)
    trace.labels.tie(own, given)
    labels = torch.where(own == NONE, given, own)
    for x in (op.out, target) if op.name.endswith("_") else (op.out,):
        trace.put(x, labels)


def _of_rows(labels: Tensor, dim: int, like: Tensor) -> Tensor:
    """Return labels that are the same for all rows, in the shape of what they are added to."""
    return labels.amax(dim, keepdim=True).expand(like.shape)
