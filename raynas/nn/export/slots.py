"""A flat list, one entry for each place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raynas.core.alias import Alias
from raynas.core.fixed import read_arch
from raynas.nn.construct.places import entries, with_fixed
from raynas.nn.export.exporters import EXPORTERS
from raynas.nn.mutable import space_of


@EXPORTERS.register(
    "slots", aliases={"DefaultSlotTraversalExporter": Alias(presets={"fixed": True})}
)
def slots(model: nn.Module, arch: Mapping[str, Any], *, fixed: bool = False) -> list[Any]:
    """Return an entry for every slot and outermost mutable, in order; for ``arch_desc``.

    The entry of a choice between layers is ``["MB3E6"]``, that of a cell ``[[[operation], [source],
    node], ...]`` for each node, that of a slot without choices None, and any other's a dict from
    label to choice. Cells of one label share an entry.

    Args:
        model: a supernet.
        arch: one of its architectures, in any form that ``read_arch`` reads.
        fixed: whether fixed blocks of a backbone have entries too, None, as ModularNAS has them.

    Raises:
        InvalidArch: the model's space does not hold ``arch``.
    """
    arch = read_arch(space_of(model), arch)
    written = [group[0].describe(arch) for _, group in entries(model)]
    if not fixed:
        return written
    rest = iter(written)
    return [next(rest) if is_place else None for is_place in with_fixed(model)]
