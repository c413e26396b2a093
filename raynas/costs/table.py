"""Costs per candidate, tabulated in one pass, so that an architecture's cost is a sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.costs.cost import Cost
from raynas.costs.meter import Meter, Tally, evaluating, storage_key, tensors_in
from raynas.nn.choice import LayerChoice
from raynas.nn.mutable import Mutable, each_route


@dataclass
class _Part:
    """A stretch of the network that an architecture runs as a whole, and the choices in it."""

    params: dict[int, int] = field(default_factory=dict)  # sizes by identity: tied ones count once
    macs: int = 0
    peak_bytes: int = 0
    choices: list[tuple[LayerChoice, list[_Part]]] = field(default_factory=list)

    def add_to(self, sum_: _Part, arch: Mapping[str, Value]) -> None:
        sum_.params |= self.params
        sum_.macs += self.macs
        sum_.peak_bytes = max(sum_.peak_bytes, self.peak_bytes)
        for choice, parts in self.choices:
            parts[choice.picked(arch)].add_to(sum_, arch)


class CostTable:
    """Exact costs of every architecture of a supernet whose candidates give equal shapes.

    One forward pass runs all candidates of every choice, each on the input that its choice gets.
    Differs: where a candidate may return its input, as an identity does, ``activation_bytes`` takes
    it for a copy, and is then an upper bound.

    Args:
        model: a supernet; its routes, mode and state are kept.
        example: a batch of one, shape (1, ...).

    Raises:
        InvalidSpace: candidates of one choice give different shapes, so that their costs would
            depend on each other.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._root = _Part(params=_own_params(model))
        self._stack = [self._root]
        restore = each_route(model, self._profile)
        try:
            with evaluating(model), Meter(example) as self._meter:
                model(example)
        finally:
            restore()
        _fill(self._root, self._meter.total)

    def cost(self, arch: Mapping[str, Value]) -> Cost:
        """Return the cost of an architecture known to be in the space."""
        sum_ = _Part()
        self._root.add_to(sum_, arch)
        return Cost(sum(sum_.params.values()), sum_.macs, sum_.peak_bytes)

    def _profile(self, mutable: Mutable) -> Callable[..., Any]:
        assert isinstance(mutable, LayerChoice)

        def route(layers: Sequence[nn.Module], *args: Any, **kwargs: Any) -> Any:
            parts = [_Part(params=_own_params(layer)) for layer in layers]
            self._stack[-1].choices.append((mutable, parts))
            shape: Any = None
            for at, (layer, part) in enumerate(zip(layers, parts, strict=True)):
                out = None  # freed before the next candidate runs, or it would count as alive there
                self._stack.append(part)
                with self._meter.part() as tally:
                    out = layer(*args, **kwargs)
                self._stack.pop()
                _fill(part, tally)
                shape = _same_shape(mutable, shape, out, at)
            given = {storage_key(tensor) for tensor in tensors_in((args, kwargs))}
            aliased = any(storage_key(tensor) in given for tensor in tensors_in(out))
            return tree_map_only(Tensor, torch.clone, out) if aliased else out

        return route


def _fill(part: _Part, tally: Tally) -> None:
    part.macs, part.peak_bytes = tally.macs, tally.peak_bytes


def _own_params(module: nn.Module) -> dict[int, int]:
    """Return the sizes of a module's parameters, choices inside it left out."""
    if isinstance(module, Mutable):
        return {}
    own = {id(p): p.numel() for p in module.parameters(recurse=False)}
    for child in module.children():
        own |= _own_params(child)
    return own


def _same_shape(choice: LayerChoice, expected: Any, out: Any, at: int) -> Any:
    shape = getattr(out, "shape", None)
    if at and shape != expected:
        raise InvalidSpace(
            f"choice {choice.label!r}: candidate {choice.names[at]!r} gives shape "
            f"{tuple(shape or ())}, but {choice.names[0]!r} gives {tuple(expected or ())}"
        )
    return shape
