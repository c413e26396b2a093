"""Passes that leave no trace in a module's running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd


class Quiet:
    """Keeps normalisation layers in training mode from moving their running statistics.

    A module's layers are looked up once: it must not be given others later.
    """

    def __init__(self) -> None:
        self._norms: WeakKeyDictionary[Any, list[nn.Module]] = WeakKeyDictionary()

    @contextmanager
    def __call__(self, module: Any) -> Iterator[None]:
        """Take the statistics away for a while: layers then normalise by the batch's alone.

        Args:
            module: a module, or anything with ``modules()``; a plain function has none to keep.
        """
        norms = self._norms.get(module)
        if norms is None:
            inner = module.modules() if hasattr(module, "modules") else ()
            norms = self._norms[module] = [m for m in inner if isinstance(m, _NormBase)]
        # past Module.__setattr__, whose checks would take a tenth of a step of binary gates
        before = [(n._buffers, dict(n._buffers)) for n in norms if n.training]
        for buffers, kept in before:
            buffers.update(dict.fromkeys(kept))
        try:
            yield
        finally:
            for buffers, kept in before:
                buffers.update(kept)


@contextmanager
def steady(model: nn.Module) -> Iterator[None]:
    """Let passes in training mode leave no trace in statistics, and drop nothing out."""
    awake = [m for m in model.modules() if isinstance(m, _DropoutNd) and m.training]
    for module in awake:
        module.training = False
    try:
        with Quiet()(model):
            yield
    finally:
        for module in awake:
            module.training = True


@contextmanager
def by_batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let passes evaluate a model by its batches' own statistics, and leave no trace."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module, mode in modes:
        if isinstance(module, _NormBase):
            module.training = mode
    try:
        with torch.no_grad(), Quiet()(model):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
