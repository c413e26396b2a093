"""Whether a model runs with channels last in memory, which convolutions on CPU are fastest with.

A model that asks for another layout, such as by ``x.view(len(x), -1)`` after a convolution, fails
with it. That is seen beforehand, from an example and all candidates, so that training and scoring
decide alike. PyTorch's layers and those of raynas take any layout, and are not tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from raynas.core.covering import covering
from raynas.core.nest import Nest, call, first, leaves, mapped
from raynas.nn.mutable import activate_unchecked, each_route, mutables, space_of
from raynas.nn.pointwise import overruns
from raynas.nn.random_state import own_random_state
from raynas.supernet.attributes import attributes_kept, modes_kept, runs_users_code

LAYOUTS = {True: torch.channels_last, False: torch.contiguous_format}


def lay_out(model: nn.Module, channels_last: bool) -> None:
    """Lay out all weights of four dimensions; others have no channels to put last."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=LAYOUTS[channels_last])


def in_layout(x: Tensor, channels_last: bool) -> Tensor:
    """Return images in a layout; other inputs are contiguous."""
    last = channels_last and x.dim() == 4
    return x.contiguous(memory_format=LAYOUTS[last])


def runs_channels_last(model: nn.Module, example: Nest) -> bool:
    """Return whether a model computes outputs and gradients with channels last.

    A model that does neither so nor otherwise is said to, since its layout is not what is wrong.
    One with a layer whose gradient would overrun its memory so (``nn/pointwise.py``) is not tried.

    Args:
        model: its mode, routes, gradients and attributes are kept.
        example: a batch, of any number of dimensions.
    """
    device = first(example).device
    if device.type == "cpu" and any(map(overruns, model.modules())):
        return False
    tensors = (*leaves(example), *model.parameters(), *model.buffers())
    if all(tensor.dim() != 4 for tensor in tensors) or not runs_users_code(model):
        return True
    with _left_alone(model, device):
        for arch in covering(space_of(model)):
            activate_unchecked(model, arch)
            try:
                with _between_mutables(model):
                    _pass(model, mapped(partial(in_layout, channels_last=True), example))
            except RuntimeError:
                return not _runs_contiguous(model, example)
    return True


def _runs_contiguous(model: nn.Module, example: Nest) -> bool:
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dim() == 4]
    before = [tensor.data for tensor in tensors]
    lay_out(model, False)
    try:
        _pass(model, mapped(torch.Tensor.contiguous, example))
    except RuntimeError:
        return False
    finally:
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data
    return True


def _pass(model: nn.Module, inputs: Nest) -> None:
    weights = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        out = [leaf for leaf in tree_leaves(call(model, inputs)) if isinstance(leaf, Tensor)]
        losses = [leaf.sum() for leaf in out if leaf.requires_grad]
        if weights and losses:
            torch.autograd.grad(losses, weights, allow_unused=True)


@contextmanager
def _left_alone(model: nn.Module, device: torch.device) -> Iterator[None]:
    restore = each_route(model, lambda mutable: mutable.route)
    with own_random_state(device, 0), attributes_kept(model), modes_kept(model):
        model.eval()
        try:
            yield
        finally:
            restore()


@contextmanager
def _between_mutables(model: nn.Module) -> Iterator[None]:
    """Put channels last wherever a choice is, whatever layout other candidates would give there."""

    def before(_: nn.Module, inputs: Any) -> Any:
        return tree_map(_last, inputs)

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        return tree_map(_last, output)

    with ExitStack() as stack:
        for mutable in mutables(model):
            stack.callback(mutable.register_forward_pre_hook(before).remove)
            stack.callback(mutable.register_forward_hook(after).remove)
        yield


def _last(value: Any) -> Any:
    return in_layout(value, True) if isinstance(value, Tensor) and value.dim() == 4 else value
