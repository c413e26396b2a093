"""The copy of a model with which laws are tried."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from raynas.core.nest import Nest, mapped
from raynas.nn.conversion.trace import Place

SEED = 0  # of the weights that laws are tried with, and of permutations
BEGINNING = 64  # numbers that tell most tensors from those that are filled with one
Units = tuple[Mapping[Place, Tensor], int]  # where each of them lies, and how many are meant


class Specimen:
    """A copy of a model in evaluation mode whose numbers are all different.

    Weights that are all ones or zeros, as they often begin, would let every law hold. Half
    precision, in which none could be told from rounding, becomes float32.

    Args:
        model: that is copied; it stays as it is, and weights are read from it again.
        example: a batch of inputs.

    Attributes:
        model: the copy.
        example: the inputs, in its precision.
        rng: draws all that is random in trying.
    """

    def __init__(self, model: nn.Module, example: Nest) -> None:
        self.rng = torch.Generator().manual_seed(SEED)
        self.model, self.example = copy.deepcopy(model).eval(), example
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in self.model.parameters()):
            self.model, self.example = self.model.float(), mapped(_full, example)
        self._tensors, self._given = _tensors(self.model), _tensors(model)
        weights = {name for name, _ in self.model.named_parameters()}
        for name, tensor in self._tensors.items():
            filled = _is_filled(name, tensor, name in weights)
            if filled:
                _fill(name, tensor, self.rng)
            if filled or tensor.dtype != self._given[name].dtype:
                self._given[name] = tensor.clone()
        self._scratch: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    @contextmanager
    def changed(
        self, permuted: Iterable[Units] = (), zeroed: Iterable[Units] = ()
    ) -> Iterator[None]:
        """Let weights be others for a while.

        Args:
            permuted: units of which the first so many are put into a random order.
            zeroed: units of which all but the first so many are set to zero.
        """
        written: set[str] = set()
        try:
            for name, indices in self._orders(permuted).items():
                written.add(name)
                self._reorder(name, indices)
            for (name, dim), gone in _beyond(zeroed).items():
                written.add(name)
                tensor = self._tensors[name]
                tensor.index_fill_(dim, gone.to(tensor.device), 0)
            yield
        finally:
            for name in written:
                self._tensors[name].copy_(self._given[name])

    def _reorder(self, name: str, indices: Mapping[int, Tensor]) -> None:
        """Write a tensor's numbers in another order; memory that is new takes longest, so none is.

        Args:
            name: of the tensor.
            indices: by dimension, where what stands at each position comes from.
        """
        source, held = self._given[name], self._tensors[name]
        *others, (last, index) = indices.items()
        for at, (dim, of_other) in enumerate(others):
            room = self._room(held) if at == 0 else None
            source = torch.index_select(source, dim, of_other.to(held.device), out=room)
        torch.index_select(source, last, index.to(held.device), out=held)

    def _room(self, like: Tensor) -> Tensor:
        """Return memory of a tensor's form, used again and again."""
        key = (like.dtype, like.device)
        if key not in self._scratch or len(self._scratch[key]) < like.numel():
            self._scratch[key] = torch.empty(like.numel(), dtype=like.dtype, device=like.device)
        return self._scratch[key][: like.numel()].view(like.shape)

    def _orders(self, permuted: Iterable[Units]) -> dict[str, dict[int, Tensor]]:
        indices: dict[str, dict[int, Tensor]] = defaultdict(dict)
        for places, count in permuted:
            order = torch.randperm(count, generator=self.rng)
            for (name, dim), positions in places.items():
                if dim not in indices[name]:
                    indices[name][dim] = torch.arange(self._tensors[name].shape[dim])
                moving = positions[:count]
                indices[name][dim][moving.flatten()] = moving[order].flatten()
        return indices


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    held = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach() for name, tensor in held}


def _beyond(units: Iterable[Units]) -> dict[Place, Tensor]:
    """Return, by tensor and dimension, the positions of all units but the first so many."""
    gone: dict[Place, list[Tensor]] = defaultdict(list)
    for places, count in units:
        for place, positions in places.items():
            gone[place].append(positions[count:].flatten())
    return {place: torch.cat(several) for place, several in gone.items()}


def _full(leaf: Tensor) -> Tensor:
    return leaf.float() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf


def _is_filled(name: str, tensor: Tensor, is_parameter: bool) -> bool:
    if not tensor.is_floating_point() or tensor.numel() < 1:
        return False
    if tensor.dim() != 1 and not _is_constant(tensor):
        return False
    is_weight = is_parameter and bool(name.rpartition(".")[0])
    return is_weight or "running" in name


def _is_constant(tensor: Tensor) -> bool:
    numbers = tensor.reshape(-1)
    return len(numbers) > 1 and all(
        bool((part == numbers[0]).all()) for part in (numbers[:BEGINNING], numbers)
    )


def _fill(name: str, tensor: Tensor, rng: torch.Generator) -> None:
    noise = torch.randn(tensor.shape, generator=rng).to(tensor)
    if name.endswith("running_var"):
        tensor.copy_(0.5 + noise.abs())
    elif name.endswith("bias") or name.endswith("running_mean"):
        tensor.copy_(0.3 * noise)
    else:
        tensor.copy_(0.6 + 0.3 * noise)
