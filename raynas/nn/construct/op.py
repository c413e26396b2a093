"""One operator for every empty slot."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.filling import built
from raynas.nn.mutable import name_labels
from raynas.nn.slot import empty_slots


@CONSTRUCTORS.register("op", aliases=("DefaultOpConstructor",))
def op(model: nn.Module, *, op: Any) -> nn.Module:
    """Return a copy of a template with the same operator in every empty slot.

    Args:
        model: the template.
        op: its name or another spec (``filling.Spec``).

    Raises:
        InvalidSpace: it does not fit a slot; the message names both.
        UnknownName: no operator has the name.
    """
    name_labels(model)
    filled = copy.deepcopy(model)
    for slot in empty_slots(filled):
        (layer,) = built(slot, {op if isinstance(op, str) else "op": op}).values()
        slot.fill(layer)
    name_labels(filled)
    return filled
