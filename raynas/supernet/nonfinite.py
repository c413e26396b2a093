"""Where in a model the first value stands that is no number."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core.nest import Nest, call, leaves
from raynas.nn.mutable import Mutable


def first_bad(model: nn.Module, inputs: Nest) -> str:
    """Return the beginning of a sentence about the first value that is no number, or nothing.

    Inputs are looked at first, then weights, then outputs in the order in which they are computed.

    Args:
        model: run once more, as it is routed now.
        inputs: of a batch.
    """
    if not _finite(inputs):
        return "the batch's inputs hold what is no number; if they should not, mend the data, else "
    for name, weight in model.named_parameters():
        if not _finite(weight):
            return f"the first bad weight is {_place(model, name)}; "
    bad: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, _inputs: Any, out: Any) -> None:
        if not bad and not _finite(out):  # inner modules are done before those that hold them
            bad.append(names[module])

    with ExitStack() as hooks:
        for module in names:
            hooks.callback(module.register_forward_hook(look).remove)
        call(model, inputs)
    return f"the first bad output is that of {_place(model, bad[0])}; " if bad else ""


def bad_targets(targets: Nest) -> str:
    """Return the beginning of a sentence about targets that are no numbers, or nothing."""
    if targets is None or _finite(targets):
        return ""
    return "the batch's targets hold what is no number; mend the data, or "


def _finite(value: Any) -> bool:
    tensors = (leaf for leaf in leaves(value) if isinstance(leaf, Tensor))
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _place(model: nn.Module, path: str) -> str:
    """Return the label of the innermost mutable around a path, and the path."""
    parts, label = path.split("."), None
    module: Any = model
    for part in ["", *parts]:
        module = getattr(module, part) if part else module
        if isinstance(module, Mutable) and module.label:
            label = module.label
    return repr(path) if label is None else f"{path!r} in choice {label!r}"
