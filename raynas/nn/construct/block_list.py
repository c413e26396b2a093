"""A flat list of blocks, the first of which is fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.description import parsed
from raynas.nn.construct.places import with_fixed
from raynas.nn.construct.plan import Plan


@CONSTRUCTORS.register("block_list", aliases=("MobileNetV2ArchDescConstructor",))
def block_list(
    model: nn.Module,
    *,
    arch_desc: Any,
    fix_first: bool = True,
    candidates: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return the network that a flat list of blocks describes.

    As ``arch_desc``, but that the first block is the backbone's own, whatever its entry says.

    Args:
        model: a template of slots, or a supernet; it stays as it is.
        arch_desc: the list, its text in JSON or YAML, or the path of a file; the first block's
            entry, commonly null, may be left out.
        fix_first: whether the first block is fixed; else it has an entry like all others.
        candidates: operators that entries may name besides registered ones, as for ``mixed_op``.

    Raises:
        InvalidArch: too few or too many entries, or one that does not suit its place; the message
            says which.
        OSError: the file cannot be read.
    """
    plan, listed = Plan(model, candidates), parsed(arch_desc)
    if fix_first and isinstance(listed, list | tuple):
        listed = without_first(listed, len(with_fixed(model)))
    plan.take_list(listed)
    return plan.carried_out()


def without_first(listed: Sequence[Any], blocks: int) -> Sequence[Any]:
    """Return a list with None for the first of ``blocks`` blocks, whether or not it had an entry.

    >>> without_first(["MB3E1", "MB3E6"], 2), without_first(["MB3E6"], 2)
    ([None, 'MB3E6'], [None, 'MB3E6'])
    """
    if len(listed) == blocks:
        return [None, *listed[1:]]
    return [None, *listed] if len(listed) == blocks - 1 else listed
