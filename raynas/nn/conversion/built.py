"""Models that are not built yet: their weights have to be there before anything is made elastic."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from raynas.core.errors import InvalidSpace


def check_built(model: nn.Module) -> None:
    """Refuse a model some of whose weights have no shape yet.

    Raises:
        InvalidSpace: one has none.
    """
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise _unbuilt(model)


def check_unchanged(model: nn.Module, after: nn.Module) -> None:
    """Refuse a model whose copy has other weights after it ran.

    Args:
        model: as it was given.
        after: a copy of it that ran.

    Raises:
        InvalidSpace: it has.
    """
    before, now = ({n: t.shape for n, t in m.named_parameters()} for m in (model, after))
    if before != now:
        raise _unbuilt(model)


def _unbuilt(model: nn.Module) -> InvalidSpace:
    return InvalidSpace(
        f"{type(model).__name__} builds layers while it runs, so that they have no weights before: "
        "call it on the example first, and convert what it is then"
    )
