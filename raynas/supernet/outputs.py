"""What a model returns: logits, and in training mode maybe auxiliary logits."""

from __future__ import annotations

from torch import Tensor


def logits_in(out: object) -> Tensor:
    """Return the logits among a model's output: the output itself, or the first of a tuple.

    Raises:
        TypeError: it is something else, whose loss only a task of its own could tell.
    """
    first = out[0] if isinstance(out, tuple | list) and out else out
    if not isinstance(first, Tensor):
        raise TypeError(
            f"the model returns {kind_of(out)}, expected logits, or a tuple that begins with them: "
            "other outputs would need a loss of their own, and there is only the cross-entropy"
        )
    return first


def training_logits(out: object) -> tuple[Tensor, ...]:
    """Return the logits in a model's output in training mode, and its auxiliary logits.

    A tuple's or list's first tensor is the logits, the others are auxiliary, each of their shape.
    None is left out: so models say that they have no auxiliary head.

    Raises:
        TypeError: it is something else.
    """
    first = logits_in(out)
    others = [part for part in out[1:] if part is not None] if isinstance(out, tuple | list) else []
    for part in others:
        if not isinstance(part, Tensor) or part.shape != first.shape:
            raise TypeError(
                f"the model returns {kind_of(out)} in training mode, expected logits and auxiliary "
                "logits of one shape: other outputs would need a loss of their own, and there is "
                "only the cross-entropy"
            )
    return first, *others


def kind_of(out: object) -> str:
    """Return a few words on what a model returns, such as ``(shape (2, 10), dict)``."""
    if isinstance(out, Tensor):
        return f"shape {tuple(out.shape)}"
    if isinstance(out, tuple | list):
        return "(" + ", ".join(map(kind_of, out)) + ")"
    return "None" if out is None else type(out).__name__
