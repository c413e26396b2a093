"""A choice between operators in every empty slot."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from raynas.nn.choice import LayerChoice
from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.filling import built, specs_of
from raynas.nn.mutable import name_labels
from raynas.nn.slot import empty_slots


@CONSTRUCTORS.register("mixed_op", aliases=("DefaultMixedOpConstructor",))
def mixed_op(
    model: nn.Module, *, candidates: Sequence[str] | Mapping[str, Any], share: bool = True
) -> nn.Module:
    """Return a copy of a template with a choice between candidates in every empty slot.

    Slots that stand inside of candidates are empty in the result: a second pass fills them.

    Args:
        model: the template.
        candidates: names of operators, or specs by the names to give them (``filling.Spec``).
        share: whether a slot's name labels its choice, so that slots of one name decide together;
            else each choice takes its module path.

    Raises:
        InvalidSpace: a candidate does not fit a slot; the message names both.
        UnknownName: no operator has the name.
    """
    specs = specs_of(candidates)
    name_labels(model)
    filled = copy.deepcopy(model)
    for slot in empty_slots(filled):
        slot.fill(LayerChoice(built(slot, specs), label=slot.label if share else None))
    name_labels(filled)
    return filled
