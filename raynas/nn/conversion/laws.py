"""What every offered axis has passed: laws that need no data, tried on the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from raynas.core.nest import Nest, call
from raynas.nn.conversion.trace import Place, results

T = TypeVar("T")
TOLERANCE = {torch.float64: 1e-9}
FLOAT32 = 2e-4  # of the largest output: what another order of additions changes


@torch.no_grad()
def outputs(model: nn.Module, example: Nest) -> list[Tensor]:
    """Return the tensors that a model makes of an example."""
    return results(call(model, example))


def agree(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Return whether outputs are equal up to rounding."""
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return False
    return all(_close(a, b) for a, b in zip(ours, theirs, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point() or not a.numel():
        return torch.equal(a, b)
    largest = float(a.abs().max())
    worst = float((a - b).abs().max())
    return worst <= TOLERANCE.get(a.dtype, FLOAT32) * max(largest, 1e-6)


def failing(parts: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return the parts for which something does not hold, by halves: all at once first."""
    if not parts or holds(parts):
        return []
    if len(parts) == 1:
        return list(parts)
    half = len(parts) // 2
    return [*failing(parts[:half], holds), *failing(parts[half:], holds)]


def permuted(
    tensors: Mapping[str, Tensor],
    axes: Iterable[tuple[Mapping[Place, Tensor], int]],
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """Put the units of axes into a random order, everywhere; return the tensors as they were.

    Args:
        tensors: of the model, by name; written in place.
        axes: the places of each, and how many of its units take part, from the first on.
        rng: draws the orders.
    """
    before: dict[str, Tensor] = {}
    for places, count in axes:
        order = torch.randperm(count, generator=rng)
        for (name, dim), positions in places.items():
            tensor = tensors[name]
            before.setdefault(name, tensor.detach().clone())
            index = torch.arange(tensor.shape[dim])
            index[positions[:count].flatten()] = positions[:count][order].flatten()
            with torch.no_grad():
                tensor.copy_(tensor.index_select(dim, index.to(tensor.device)))
    return before


@torch.no_grad()
def put_back(tensors: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    """Write tensors as they were."""
    for name, value in before.items():
        tensors[name].copy_(value)
