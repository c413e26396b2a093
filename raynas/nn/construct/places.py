"""The places of a model that a description has entries for, in order."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from raynas.core.archspace import ArchSpace
from raynas.nn.mutable import Mutable

FIXED_PLACE = "fixed_place"  # the attribute by which a fixed block is known


def places(model: nn.Module) -> Iterator[tuple[str, Mutable]]:
    """Yield module path and mutable of the outermost mutables, each once."""
    seen: set[int] = set()

    def visit(module: nn.Module, path: str) -> Iterator[tuple[str, Mutable]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        if isinstance(module, Mutable):
            yield path, module
            return
        for name, child in module.named_children():
            yield from visit(child, f"{path}.{name}".lstrip("."))

    yield from visit(model, "")


def with_fixed(model: nn.Module) -> list[bool]:
    """Return, for every place and fixed block of a model in order, whether it is a place.

    A fixed block stands where a backbone has a slot that nothing chooses: ModularNAS' lists have an
    entry for it, which is null.
    """
    return [isinstance(module, Mutable) for _, module in _in_order(model)]


def _in_order(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the first of the places that share an entry, and fixed blocks, in order."""
    firsts = {id(group[0]) for _, group in entries(model)}
    inside: set[int] = set()
    for path, module in model.named_modules():
        if id(module) in inside:
            continue
        if id(module) in firsts or FIXED_PLACE in vars(module):
            inside |= {id(inner) for inner in module.modules()}
            yield path, module
        elif isinstance(module, Mutable):
            inside |= {id(inner) for inner in module.modules()}


def entries(model: nn.Module) -> list[tuple[str, list[Mutable]]]:
    """Return the places in the order of a flat list, those that share an entry together.

    Cells of one label share the first one's, unless their candidates have choices that the first
    cell has not.
    """
    grouped: list[tuple[str, list[Mutable]]] = []
    for path, mutable in places(model):
        group = next((group for _, group in grouped if _speaks_for(group[0], mutable)), None)
        if group is None:
            grouped.append((path, [mutable]))
        else:
            group.append(mutable)
    return grouped


def _speaks_for(first: Mutable, other: Mutable) -> bool:
    if not first.described_once or type(first) is not type(other) or first.label != other.label:
        return False
    ours, theirs = (ArchSpace(mutable.choices()).labels for mutable in (first, other))
    return {*theirs} <= {*ours}
