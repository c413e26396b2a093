"""Layers that write into their input, kept from the others that read it.

A mixture hands one tensor to all candidates, and a cell hands a state to all edges that read it. A
layer such as ``nn.ReLU(inplace=True)`` would change what the others see; it gets a copy of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from raynas.nn.mutable import Mutable
from raynas.nn.random_state import own_random_state

# by layer, and by whether it trains, since dropout writes in training alone
_WRITES: WeakKeyDictionary[nn.Module, dict[bool, bool]] = WeakKeyDictionary()


def called(layer: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
    """Call a layer whose inputs others read as well, and leave these as they are.

    Whether it writes into them is found before its first call, by a copy of it that is thrown away,
    so that the first call computes what all others do; a layer that holds choices of its own may do
    otherwise at every call, and always works on copies.

    Args:
        layer: most often a module; what is none always works on copies.
        inputs: any nest of tensors.
        keywords: likewise.
    """
    if isinstance(layer, nn.Module):
        writes = _WRITES.setdefault(layer, {})
        if layer.training not in writes and not torch.compiler.is_compiling():
            writes[layer.training] = _writes(layer, inputs, keywords)
        if not writes.get(layer.training, True):  # unknown while an export looks on
            return layer(*inputs, **keywords)
    copied_inputs, copied_keywords = tree_map(_copied, (inputs, keywords))
    return layer(*copied_inputs, **copied_keywords)


def _writes(layer: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    """Return whether a layer may write into its inputs, without a trace in it or in autograd."""
    if any(isinstance(part, Mutable) for part in layer.modules()):
        return True
    tensors = [leaf for leaf in tree_leaves((inputs, keywords)) if isinstance(leaf, Tensor)]
    device = tensors[0].device if tensors else torch.device("cpu")
    try:
        twin = copy.deepcopy(layer)
    except RuntimeError:  # it holds what is computed, as under functional_call
        return True
    # nobody who counts or records operations is to see this call
    with _disable_current_modes(), own_random_state(device, 0):
        copies = tree_map(_copied, (inputs, keywords))
        before = [_state(leaf) for leaf in tree_leaves(copies)]
        twin(*copies[0], **copies[1])
    pairs = zip(before, tree_leaves(copies), strict=True)
    return any(_changed(state, leaf) for state, leaf in pairs)


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
