"""Making a model that exists already into a space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from raynas.core.nest import Nest
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.conversion.importance import Loss
from raynas.nn.conversion.ordering import check_order
from raynas.nn.conversion.request import read_request

Shares = Sequence[float] | float | bool | None
Patterns = Sequence[str] | str | None


def elastic(
    model: nn.Module,
    example: Nest,
    *,
    width: Shares = None,
    heads: Shares = None,
    ffn: Shares = None,
    kernel: Sequence[int] | int | None = None,
    depth: bool = False,
    only: Patterns = None,
    skip: Patterns = None,
    order: str | None = None,
    batches: Iterable[Any] | None = None,
    loss: Loss | None = None,
    trained: bool = True,
) -> ElasticSpace:
    """Return the space of a model's smaller networks, which share its weights.

    The model runs once while labels of its channels are carried along; which weights have to
    change together is read from that. Every axis that is offered has passed two laws on the model
    itself: its units may change places, and what is cut equals what is set to zero. What cannot be
    told stays as it is, with a reason (``fixed``).

    Args:
        model: any module; it stays as it is. Its weights are those that supernets begin with.
        example: a batch of inputs that it takes: a tensor, a tuple (positional) or a dict (by
            keyword) of tensors.
        width: shares of channels that may stay, such as [0.5, 0.75, 1.0]; True is these. The whole
            is always among them.
        heads: likewise of the heads of attention; groups that share keys and values go together.
        ffn: likewise of the channels inside of MLPs; None takes ``width``'s.
        kernel: odd sizes to which larger kernels may be cut, such as [3, 5].
        depth: whether residual layers, or the terms that they add, may be left out.
        only: patterns of module paths outside of which all stays fixed, such as ``layer4*``.
        skip: patterns of module paths that stay fixed.
        order: which units smaller networks keep: those that matter most by ``l1`` (their weights),
            ``activation`` (what they give to the layers behind, over ``batches``) or ``gradient``
            (the loss without them, over ``batches``); None keeps the first, as the model has them.
        batches: of inputs such as ``example``; for ``gradient`` pairs of inputs and targets.
        loss: of (outputs, targets), for ``gradient``; None takes what the model calls its ``loss``.
        trained: whether the weights are trained. Supernets then go on from them: ``spos`` without
            its warm start, ``progressive_shrinking`` with the whole model as teacher from the first
            stage that shrinks.

    Raises:
        ValueError: an argument that means nothing, or nothing asked for.
        InvalidSpace: the model does not take the example, gives different outputs for one input,
            or has nothing that can become smaller as it was asked.
    """
    request = read_request(
        width=width, heads=heads, ffn=ffn, kernel=kernel, depth=depth, only=only, skip=skip
    )
    if order is None:
        if batches is not None or loss is not None:
            raise ValueError("batches and loss are for an order: give order='activation' too")
        return ElasticSpace(model, example, request, trained=trained)
    check_order(order, batches, loss)
    space = ElasticSpace(model, example, request, trained=trained)
    return space.sorted(order, batches=batches, loss=loss)
