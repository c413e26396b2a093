"""Costs per candidate, tabulated in one pass, so that an architecture's cost is a sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.costs.cost import Cost
from raynas.costs.meter import Meter, Tally, evaluating
from raynas.nn.choice import LayerChoice
from raynas.nn.mutable import Mutable, each_route, outermost


@dataclass
class _Part:
    """A stretch of the network that an architecture runs as a whole, and the choices in it."""

    params: int = 0
    macs: int = 0
    peak_bytes: int = 0
    choices: list[tuple[LayerChoice, list[_Part]]] = field(default_factory=list)

    def add_to(self, sums: list[int], arch: Mapping[str, Value]) -> None:
        sums[0] += self.params
        sums[1] += self.macs
        sums[2] = max(sums[2], self.peak_bytes)
        for choice, parts in self.choices:
            parts[choice.picked(arch)].add_to(sums, arch)


class CostTable:
    """Exact costs of every architecture of a supernet whose candidates give equal shapes.

    One forward pass runs all candidates of every choice, each on the input that its choice gets.

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
        sums = [0, 0, 0]
        self._root.add_to(sums, arch)
        return Cost(*sums)

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
            return out

        return route


def _fill(part: _Part, tally: Tally) -> None:
    part.macs, part.peak_bytes = tally.macs, tally.peak_bytes


def _own_params(module: nn.Module) -> int:
    """Return how many parameters a module has, choices inside it left out."""
    inside = {id(p) for mutable in outermost(module) for p in mutable.parameters()}
    return sum(p.numel() for p in module.parameters() if id(p) not in inside)


def _same_shape(choice: LayerChoice, expected: Any, out: Any, at: int) -> Any:
    shape = getattr(out, "shape", None)
    if at and shape != expected:
        raise InvalidSpace(
            f"choice {choice.label!r}: candidate {choice.names[at]!r} gives shape "
            f"{tuple(shape or ())}, but {choice.names[0]!r} gives {tuple(expected or ())}"
        )
    return shape
