"""The copy of a model with which laws are tried."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from raynas.core.nest import Nest, mapped

SEED = 0  # of the weights that laws are tried with, and of permutations


class Specimen:
    """A copy of a model in evaluation mode whose numbers are all different.

    Weights that are all ones or zeros, as they often begin, would let every law hold. Half
    precision, in which none could be told from rounding, becomes float32.

    Args:
        model: that is copied; it stays as it is, and tensors are read from it again by ``restore``.
        example: a batch of inputs.

    Attributes:
        model: the copy.
        example: the inputs, in its precision.
        tensors: its parameters and buffers by name.
        rng: draws all that is random in trying.
    """

    def __init__(self, model: nn.Module, example: Nest) -> None:
        self.rng = torch.Generator().manual_seed(SEED)
        self.model, self.example = copy.deepcopy(model).eval(), example
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in self.model.parameters()):
            self.model, self.example = self.model.float(), mapped(_full, example)
        self.tensors = _tensors(self.model)
        self._given = _tensors(model)
        for name, tensor in self.tensors.items():
            if _is_filled(name, tensor):
                _fill(name, tensor, self.rng)
                self._given[name] = tensor.detach().clone()

    @torch.no_grad()
    def restore(self, names: Iterable[str]) -> None:
        """Write tensors as they were at first."""
        for name in names:
            self.tensors[name].copy_(self._given[name])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _full(leaf: Tensor) -> Tensor:
    return leaf.float() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf


def _is_filled(name: str, tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() < 1:
        return False
    constant = tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())
    if tensor.dim() != 1 and not constant:
        return False
    is_weight = isinstance(tensor, nn.Parameter) and bool(name.rpartition(".")[0])
    return is_weight or "running" in name


@torch.no_grad()
def _fill(name: str, tensor: Tensor, rng: torch.Generator) -> None:
    noise = torch.randn(tensor.shape, generator=rng).to(tensor)
    if name.endswith("running_var"):
        tensor.copy_(0.5 + noise.abs())
    elif name.endswith("bias") or name.endswith("running_mean"):
        tensor.copy_(0.3 * noise)
    else:
        tensor.copy_(0.6 + 0.3 * noise)
