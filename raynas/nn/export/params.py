"""Choices by label, or in the order of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raynas.core.alias import Alias
from raynas.core.fixed import read_arch
from raynas.core.plain_values import as_lists
from raynas.nn.export.exporters import EXPORTERS
from raynas.nn.mutable import space_of


@EXPORTERS.register("params", aliases={"DefaultParamsExporter": Alias(presets={"numbered": True})})
def params(
    model: nn.Module, arch: Mapping[str, Any], *, with_keys: bool = True, numbered: bool = False
) -> Any:
    """Return choices by label; for the constructor ``params``.

    Args:
        model: a supernet.
        arch: one of its architectures, in any form that ``read_arch`` reads.
        with_keys: return a dict, else the list of choices in the order of labels.
        numbered: name decisions ``c_0``, ``c_1``, ... in their order, as ModularNAS does, in place
            of their labels.

    Raises:
        InvalidArch: the model's space does not hold ``arch``.
    """
    space = space_of(model)
    arch = read_arch(space, arch)
    choices = {label: as_lists(arch[label]) for label in space.reached(arch)}
    if not with_keys:
        return list(choices.values())
    if numbered:
        return {f"c_{at}": choice for at, choice in enumerate(choices.values())}
    return choices
