"""A choice between blocks in every empty slot, the first one aside."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from raynas.core.alias import Alias
from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.filling import predefined, specs_of
from raynas.nn.construct.mixed_op import choice_in, with_options
from raynas.nn.mutable import name_labels
from raynas.nn.slot import Slot, empty_slots

BLOCKS = ("MB3E3", "MB3E6", "MB5E3", "MB5E6", "MB7E3", "MB7E6")
ZERO = "NIL"


@CONSTRUCTORS.register(
    "block_choice",
    aliases={"MobileNetV2SearchConstructor": Alias(words={"primitives": "candidates"})},
)
def block_choice(
    model: nn.Module,
    *,
    candidates: Sequence[str] | Mapping[str, Any] = BLOCKS,
    mixed_op: Any = None,
    candidate_args: Mapping[str, Any] | None = None,
    fix_first: bool = True,
    add_zero_op: bool = True,
) -> nn.Module:
    """Return a copy of a backbone's template with a choice between blocks in every empty slot.

    Args:
        model: a template whose slots stand in a chain, such as ``mobilenet_v2_cifar`` with
            ``slots=True``.
        candidates: names of operators, or specs by the names to give them.
        mixed_op: how a search by gradients combines them, as for ``mixed_op``.
        candidate_args: options of every candidate that is named; a candidate's own come first.
        fix_first: whether the first slot takes its predefined block, and no choice.
        add_zero_op: whether a block may be left out (NIL) where input and output have one shape,
            so that a skip connection is left of it.

    Raises:
        InvalidSpace: a candidate does not fit a slot, or the first one has no predefined block.
        UnknownName: no operator has the name.
    """
    specs = {n: with_options(spec, candidate_args) for n, spec in specs_of(candidates).items()}
    name_labels(model)
    filled = copy.deepcopy(model)
    for at, slot in enumerate(empty_slots(filled)):
        if fix_first and at == 0:
            slot.fill(predefined(slot))
        else:
            own = specs | {ZERO: ZERO} if add_zero_op and _keeps_shape(slot) else specs
            slot.fill(choice_in(slot, own, mixed_op, slot.label))
    name_labels(filled)
    return filled


def _keeps_shape(slot: Slot) -> bool:
    return slot.stride == 1 and slot.chn_in == slot.chn_out
