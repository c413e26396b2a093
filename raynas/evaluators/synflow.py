"""Synaptic flow (Tanaka et al., 2020, arXiv:2006.05467), as a score of architectures."""

from __future__ import annotations

import copy
import math
import sys

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from raynas.core.evaluator import EVALUATORS
from raynas.core.nest import call, mapped
from raynas.data.module import DataModule
from raynas.nn.modelspace import zeros_like_signature


@EVALUATORS.register("synflow")
class SynFlow:
    """Gives ``synflow``: the logarithm of how much weight all paths from input to output carry.

    The sum over weights of |w * dR/dw|, where R is the sum of all outputs on an input of ones and
    every parameter is replaced by its absolute value; as used by Abdelfattah et al., 2021,
    arXiv:2101.08134: in evaluation mode, with BatchNorm removed, and only weights of layers (not
    their biases) in the sum. No data are looked at.

    Differs: the logarithm is taken, since the sum grows exponentially with depth (a network
    without any path gets that of the smallest normal double, -708). ReLU6, which would cut the flow
    off, is taken for ReLU. Layers that normalise otherwise than by BatchNorm stay as they are.
    """

    metrics = ("synflow",)

    def measure(self, net: nn.Module, data: DataModule, seed: int) -> dict[str, float]:
        """Return the score; the network is left as it was."""
        twin = _linear(copy.deepcopy(net)).eval().double()
        device = next((p.device for p in twin.parameters()), torch.device("cpu"))
        ones = mapped(lambda x: _ones(x, device), zeros_like_signature(data.signature))
        for parameter in twin.parameters():
            parameter.data.abs_()
        with torch.enable_grad():
            flow = _sum(data.task.output(call(twin, ones)))
        weights = [p for p in twin.parameters() if p.requires_grad and p.dim() > 1]
        if weights and flow.requires_grad:
            flow.backward()
        total = sum(float((w.detach() * w.grad).abs().sum()) for w in weights if w.grad is not None)
        return {"synflow": math.log(max(total, sys.float_info.min))}


def _ones(x: Tensor, device: torch.device) -> Tensor:
    """Return ones in float64 for numbers of floating point; whole ones stay zero, a first token."""
    return (
        torch.ones_like(x, dtype=torch.float64, device=device)
        if x.is_floating_point()
        else x.to(device)
    )


def _sum(output: object) -> Tensor:
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return torch.stack([tensor.sum() for tensor in tensors if tensor.is_floating_point()]).sum()


def _linear(net: nn.Module) -> nn.Module:
    """Replace what is not linear for positive numbers."""
    if isinstance(net, _BatchNorm):
        return nn.Identity()
    if isinstance(net, nn.ReLU6):
        return nn.ReLU()
    for module in list(net.modules()):
        for name, child in list(module._modules.items()):  # children() leaves repeated ones out
            if child is not None and isinstance(child, _BatchNorm):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    return net
