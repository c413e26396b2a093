"""The architecture that a description stands for, in whichever form it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.errors import InvalidArch
from raynas.core.fixed import read_arch
from raynas.nn.construct.description import EXTENSIONS, parsed
from raynas.nn.construct.params import in_order, numbered
from raynas.nn.construct.plan import Plan
from raynas.nn.construct.recursive_arch_desc import has_blocks, list_of_blocks, take_nested


def described_arch(space: ArchSpace, supernet: Callable[[], nn.Module], given: Any) -> Arch:
    """Return the architecture of a space that a description stands for.

    >>> space = ArchSpace.of(op=["NC3", "NC5"])
    >>> described_arch(space, nn.Identity, {"c_0": "NC5"})
    Arch({'op': 'NC5'})

    Args:
        space: that holds it.
        supernet: returns the space's model with choices, which is not changed.
        given: from label to choice in any form of ``read_arch``; or what an exporter writes: the
            list of ``slots``, the nested dict of ``recursive``, or ``{"c_0": ..., "c_1": ...}``;
            or the text of any of these in JSON or YAML, or the path of a file of it.

    Raises:
        InvalidArch: the space does not hold it, or it is in none of these forms.
        OSError: the file cannot be read.
    """
    given = _read(given)
    if isinstance(given, list | tuple):
        plan = Plan(supernet())
        plan.take_list(given)
        return plan.arch()
    if isinstance(given, Mapping) and not {*given} & {*space.decisions}:
        if (choices := numbered(space, given)) is not given:
            return in_order(space, choices)
        if any(isinstance(part, Mapping) for part in given.values()):
            plan = Plan(supernet())
            take_nested(plan, given)
            return plan.arch()
    return read_arch(space, given)


def flat_list(space: ArchSpace, given: Any) -> Any:
    """Return the list of blocks that ModularNAS' nested dict of a MobileNetV2 stands for.

    A dict of ``c_0``, ``c_1``, ... is such a list too; anything else comes back as it is.
    """
    return list_of_blocks(given) if has_blocks(given) else numbered(space, given)


def _read(given: Any) -> Any:
    """Return what a text or a file holds; what is no description comes back for ``read_arch``."""
    if not isinstance(given, str | Path):
        return given
    try:
        description = parsed(given)
    except (InvalidArch, OSError):
        if str(given).lower().endswith(EXTENSIONS[1:]):
            raise
        return given  # read_arch says what it expects
    return description if isinstance(description, list | Mapping) else given
