"""What every offered axis has passed: laws that need no data, tried on the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from raynas.core.nest import Nest, call
from raynas.nn.conversion.trace import Place, results

T = TypeVar("T")
EXACT = 1e-9  # of the largest output, where all is computed in float64
ROUNDED = 2e-4  # likewise where it is not: what another order of additions changes


@torch.no_grad()
def outputs(model: nn.Module, example: Nest) -> list[Tensor]:
    """Return the tensors that a model makes of an example."""
    return results(call(model, example))


def agree(ours: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float = ROUNDED) -> bool:
    """Return whether outputs are equal up to rounding, as a share of the largest number."""
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return False
    return all(_close(a, b, tolerance) for a, b in zip(ours, theirs, strict=True))


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if not a.is_floating_point() or not a.numel():
        return torch.equal(a, b)
    largest = float(a.abs().max())
    worst = float((a - b).abs().max())
    return worst <= tolerance * max(largest, 1e-6)


def holding(parts: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return as many parts as possible for which something holds together, by halves.

    What is returned has been tried as a whole: parts that hold alone need not hold together.
    """

    def admitted(before: list[T], more: Sequence[T]) -> list[T]:
        together = [*before, *more]
        if not more or holds(together):
            return together
        if len(more) == 1:
            return before
        half = len(more) // 2
        return admitted(admitted(before, more[:half]), more[half:])

    return admitted([], parts)


def permuted(
    tensors: Mapping[str, Tensor],
    axes: Iterable[tuple[Mapping[Place, Tensor], int]],
    rng: torch.Generator,
) -> set[str]:
    """Put the units of axes into a random order, everywhere; return which tensors changed.

    Args:
        tensors: of the model, by name; written in place.
        axes: the places of each, and how many of its units take part, from the first on.
        rng: draws the orders.
    """
    changed: set[str] = set()
    for places, count in axes:
        reorder(tensors, places, torch.randperm(count, generator=rng))
        changed |= {name for name, _ in places}
    return changed


@torch.no_grad()
def reorder(tensors: Mapping[str, Tensor], places: Mapping[Place, Tensor], order: Tensor) -> None:
    """Put the first units of an axis into another order wherever they lie.

    Args:
        tensors: of the model, by name; written in place.
        places: by tensor and dimension, the positions of each unit, shape (units, width).
        order: of the units that take part, on the CPU.
    """
    for (name, dim), positions in places.items():
        tensor, moving = tensors[name], positions[: len(order)]
        index = torch.arange(tensor.shape[dim])
        index[moving.flatten()] = moving[order].flatten()
        tensor.copy_(tensor.index_select(dim, index.to(tensor.device)))
