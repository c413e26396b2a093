"""What the published backbone has, in every empty slot."""

from __future__ import annotations

import copy

from torch import nn

from raynas.nn.construct import filling
from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.mutable import name_labels
from raynas.nn.slot import empty_slots


@CONSTRUCTORS.register("predefined", aliases=("MobileNetV2PredefinedConstructor",))
def predefined(model: nn.Module) -> nn.Module:
    """Return a copy of a template with the published backbone's operator in every empty slot.

    In MobileNetV2 these are inverted residuals of kernel 3 and the table's expansion.

    Args:
        model: a template whose slots say it, ``Slot(..., predefined="MB3E6")``.

    Raises:
        InvalidSpace: a slot does not say it, or the operator does not fit.
    """
    name_labels(model)
    filled = copy.deepcopy(model)
    for slot in empty_slots(filled):
        slot.fill(filling.predefined(slot))
    name_labels(filled)
    return filled
