"""Copies of models that hold tensors with a graph."""

from __future__ import annotations

from torch import Tensor, nn


def without_graphs(model: nn.Module) -> dict[int, Tensor]:
    """Return what a deep copy is to take for attributes that were computed from weights.

    PyTorch copies no tensor with its graph; ``nn.utils.weight_norm`` leaves such ones.
    """
    held = [value for module in model.modules() for value in vars(module).values()]
    return {id(v): v.detach() for v in held if isinstance(v, Tensor) and not v.is_leaf}
