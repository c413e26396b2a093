"""What a model returns: an output, and in training mode maybe auxiliary outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from raynas.core.nest import Nest, described, mapped

MAIN = ("out", "logits")  # torchvision's name in a dict, and Hugging Face's
AUXILIARY = "aux"  # torchvision's name


def main_output(out: object) -> Tensor:
    """Return the output of a model that returns one: itself, or what a tuple or dict begins with.

    >>> main_output((torch.zeros(2, 10), None)).shape
    torch.Size([2, 10])

    Args:
        out: a tensor, a tuple or list that begins with one, or a dict with ``out`` or ``logits``.

    Raises:
        TypeError: it is something else, whose loss only a task of one's own could tell.
    """
    first: object = out
    if isinstance(out, Mapping):
        first = next((out[name] for name in MAIN if name in out), out)
    elif isinstance(out, tuple | list) and out:
        first = out[0]
    if not isinstance(first, Tensor):
        raise TypeError(
            f"the model returns {described(out)}, expected a tensor, a tuple that begins with one "
            "or a dict with 'out' or 'logits': other outputs need a task of one's own, "
            "raynas.Task(loss=...)"
        )
    return first


def main_and_auxiliary(out: object) -> tuple[Tensor, ...]:
    """Return the output of a model in training mode, and its auxiliary outputs.

    These are what follows in a tuple or list, or stands in a dict under ``aux``, each of the
    output's shape. None is left out: so models say that they have no auxiliary head.

    Raises:
        TypeError: it is something else.
    """
    first = main_output(out)
    others: list[Any] = []
    if isinstance(out, Mapping):
        others = [out.get(AUXILIARY)]
    elif isinstance(out, tuple | list):
        others = list(out[1:])
    others = [part for part in others if part is not None]
    for part in others:
        if not isinstance(part, Tensor) or part.shape != first.shape:
            raise TypeError(
                f"the model returns {described(out)} in training mode, expected an output and "
                "auxiliary outputs of one shape: other outputs need a task of one's own, "
                "raynas.Task(loss=...)"
            )
    return first, *others


def in_float32(nest: Nest) -> Nest:
    """Return a nest whose tensors of half precision are in float32; others stay as they are."""
    return mapped(_in_float32, nest)


def _in_float32(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return leaf
    return leaf.to(torch.promote_types(leaf.dtype, torch.float32))
