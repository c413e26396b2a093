"""A nested dict that follows the names of modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raynas.core.fixed import read_arch
from raynas.nn.construct.places import places
from raynas.nn.export.exporters import EXPORTERS
from raynas.nn.mutable import space_of


@EXPORTERS.register("recursive", aliases=("DefaultRecursiveExporter",))
def recursive(model: nn.Module, arch: Mapping[str, Any]) -> Any:
    """Return entries like those of ``slots`` by module names; for ``recursive_arch_desc``.

    Modules without choices have no entries. If the model is itself a mutable, its entry is all.

    Args:
        model: a supernet.
        arch: one of its architectures, in any form that ``read_arch`` reads.

    Raises:
        InvalidArch: the model's space does not hold ``arch``.
    """
    arch = read_arch(space_of(model), arch)
    tree: dict[str, Any] = {}
    for path, mutable in places(model):
        if not path:
            return mutable.describe(arch)
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = mutable.describe(arch)
    return tree
