"""Layers that write into their input, kept from the others that read it.

A mixture hands one tensor to all candidates, and a cell hands a state to all edges that read it. A
layer such as ``nn.ReLU(inplace=True)`` would change what the others see; it gets a copy of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from raynas.nn.mutable import Mutable

# by layer, and by whether it trains, since dropout writes in training alone
_WRITES: WeakKeyDictionary[nn.Module, dict[bool, bool]] = WeakKeyDictionary()


def called(layer: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
    """Call a layer whose inputs others read as well, and leave these as they are.

    Whether it writes into them is found at its first call, which is on copies; one that holds
    choices of its own may do otherwise at every call, and always works on copies.

    Args:
        layer: most often a module; what is none always works on copies.
        inputs: any nest of tensors.
        keywords: likewise.
    """
    writes = _WRITES.setdefault(layer, {}) if isinstance(layer, nn.Module) else {}
    mode = isinstance(layer, nn.Module) and layer.training
    if writes.get(mode) is False:
        return layer(*inputs, **keywords)
    copies = tree_map(_copied, (inputs, keywords))
    before = [_state(leaf) for leaf in tree_leaves(copies)]
    out = layer(*copies[0], **copies[1])
    if isinstance(layer, nn.Module) and mode not in writes:
        pairs = zip(before, tree_leaves(copies), strict=True)
        changed = any(_changed(state, leaf) for state, leaf in pairs)
        writes[mode] = changed or any(isinstance(part, Mutable) for part in layer.modules())
    return out


def _copied(leaf: Any) -> Any:
    """Return a copy with the same strides: kernels round by them, and no call may differ so."""
    if not isinstance(leaf, Tensor):
        return leaf
    overlaps = any(
        step == 0 and size > 1 for size, step in zip(leaf.shape, leaf.stride(), strict=True)
    )
    if overlaps or leaf.is_contiguous():
        return leaf.clone()
    return leaf.new_empty_strided(leaf.shape, leaf.stride()).copy_(leaf)


def _state(leaf: Any) -> int | Tensor | None:
    """Return what tells later whether a tensor was written to; None for what is no tensor."""
    if not isinstance(leaf, Tensor):
        return None
    return leaf.clone() if leaf.is_inference() else leaf._version


def _changed(state: int | Tensor | None, leaf: Any) -> bool:
    if isinstance(state, Tensor):  # inference tensors do not count their versions
        return not torch.equal(state, leaf)
    return state is not None and leaf._version != state
