"""What every offered axis has passed: laws that need no data, tried on the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from math import comb
from typing import TypeVar

import torch
from torch import Tensor, nn

from raynas.core.nest import Nest, call
from raynas.nn.conversion.results import results
from raynas.nn.conversion.trace import Place

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


def holding(parts: Sequence[T], *laws: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return as many parts as possible for which laws hold together, by halves.

    What is returned has been tried as a whole: parts that hold alone need not hold together.

    Args:
        parts: that are tried, all of them at first.
        laws: the quickest to try first; whether they hold for some of the parts.
    """
    kept = list(parts)
    for at, law in enumerate(laws):
        if kept and not law(kept):
            kept = _by_halves(kept, laws[: at + 1])
    return kept


def _by_halves(parts: Sequence[T], laws: Sequence[Callable[[Sequence[T]], bool]]) -> list[T]:
    def admitted(before: list[T], more: Sequence[T]) -> list[T]:
        together = [*before, *more]
        if not more or all(law(together) for law in laws):
            return together
        return split(before, more)

    def split(before: list[T], more: Sequence[T]) -> list[T]:
        if len(more) < 2:
            return before
        half = len(more) // 2
        return admitted(admitted(before, more[:half]), more[half:])

    return split([], parts)


def apart(parts: Sequence[T]) -> Iterator[list[T]]:
    """Yield some of the parts, so that of every two each is without the other in one of them.

    Parts have different codes of as many ones, the fewest that there can be (Sperner, 1928).
    """
    bits = 0
    while comb(bits, bits // 2) < len(parts):
        bits += 1
    codes = list(islice(combinations(range(bits), bits // 2), len(parts)))
    for bit in range(bits):
        yield [part for part, code in zip(parts, codes, strict=True) if bit in code]


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
