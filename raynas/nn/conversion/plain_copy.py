"""The active part of an elastic model as a plain one, of the classes that its author wrote."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.core.arch import Value
from raynas.nn.conversion.converted import CUTS, STATE, Converted
from raynas.nn.conversion.cuts import Cut
from raynas.nn.conversion.plan import Plan
from raynas.nn.conversion.skipped import Skipped
from raynas.nn.mutable import Memo


def plain_copy(model: nn.Module, plan: Plan, arch: Mapping[str, Value], memo: Memo) -> nn.Module:
    """Return a copy of the active part; tensors and modules that are left out are not copied.

    Args:
        model: elastic, of which ``arch`` is active.
        plan: of the model.
        arch: the active architecture.
        memo: of the copy that is under way.
    """
    skipped = [skip for skip in plan.skips if arch.get(skip.label, 1) == 0]
    modules = dict(model.named_modules())
    for skip in skipped:
        memo[id(modules[skip.path])] = Skipped(skip.zero, skip.nones).train(model.training)
    for module in modules.values():
        for name, cut in vars(module).get(CUTS, {}).items():
            tensor = module._parameters.get(name)
            if tensor is None:
                tensor = module._buffers.get(name)
            if isinstance(cut, Cut) and isinstance(tensor, Tensor):
                part = cut(tensor.detach()).clone(memory_format=torch.contiguous_format)
                is_weight = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = (
                    nn.Parameter(part, requires_grad=tensor.requires_grad) if is_weight else part
                )
    held = {name: vars(model).pop(name) for name in sorted(STATE - {CUTS}) if name in vars(model)}
    try:
        plain = copy.deepcopy(model, memo)
    finally:
        vars(model).update(held)
    for module in plain.modules():
        if isinstance(module, Converted):
            _restore(module)
    return plain


def _restore(module: Any) -> None:
    """Make a module of an elastic model one of the original's class."""
    held = vars(module)
    for name, value in held.pop(CUTS).items():
        if name in held and value is not None and name != "forward":
            held[name] = value
    held.pop("label", None)
    module.__class__ = module.original
    _name_sizes(module)


def _name_sizes(module: Any) -> None:
    """Let the sizes that layers of PyTorch show, and check, be those of their weights."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, _BatchNorm) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.GroupNorm) and module.weight is not None:
        module.num_channels = len(module.weight)
