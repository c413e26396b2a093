"""Where in a model the first value stands that is no number."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from raynas.nn.mutable import Mutable


def first_bad(model: nn.Module, x: Tensor) -> str:
    """Return the beginning of a sentence about the first value that is no number, or nothing.

    Inputs are looked at first, then weights, then outputs in the order in which they are computed.

    Args:
        model: run once more, as it is routed now.
        x: the inputs of a batch.
    """
    if not _finite(x):
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
        model(x)
    return f"the first bad output is that of {_place(model, bad[0])}; " if bad else ""


def _finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_finite(part) for part in value)
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _place(model: nn.Module, path: str) -> str:
    """Return the label of the innermost mutable around a path, and the path."""
    parts, label = path.split("."), None
    module: Any = model
    for part in ["", *parts]:
        module = getattr(module, part) if part else module
        if isinstance(module, Mutable) and module.label:
            label = module.label
    return repr(path) if label is None else f"{path!r} in choice {label!r}"
