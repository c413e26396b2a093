"""A flat list, one entry for each place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.description import parsed
from raynas.nn.construct.plan import Plan


@CONSTRUCTORS.register("arch_desc", aliases=("DefaultSlotArchDescConstructor",))
def arch_desc(
    model: nn.Module, *, arch_desc: Any, candidates: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the network that a flat list describes, as the exporter ``slots`` writes it.

    The list has an entry for every slot and outermost mutable, in the order of their modules;
    cells of one label share an entry. An empty slot is filled with the operator that its entry
    names, ``"MB3E6"`` or ``["MB3E6"]``; any other place is decided and frozen, weights kept.
    None keeps a place as it is; in an empty slot that says what is predefined there
    (``Slot(predefined="MB3E1")``, as those of MobileNetV2 do) it stands for that.
    Everything is checked before anything is made.

    Args:
        model: a template of slots, or a supernet; it stays as it is.
        arch_desc: the list, its text in JSON or YAML, or the path of a file.
        candidates: operators that entries may name besides registered ones, as for ``mixed_op``.

    Raises:
        InvalidArch: too few or too many entries, or one that does not suit its place; the message
            says which.
        OSError: the file cannot be read.
    """
    plan = Plan(model, candidates)
    plan.take_list(parsed(arch_desc))
    return plan.carried_out()
