"""A choice between operators in every empty slot."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from raynas.core.alias import Alias
from raynas.nn.choice import LayerChoice
from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.filling import Spec, built, specs_of
from raynas.nn.mutable import name_labels
from raynas.nn.slot import Slot, empty_slots


@CONSTRUCTORS.register(
    "mixed_op",
    aliases={
        "DefaultMixedOpConstructor": Alias(words={"primitives": "candidates"}),
    },
)
def mixed_op(
    model: nn.Module,
    *,
    candidates: Sequence[str] | Mapping[str, Any],
    mixed_op: Any = None,
    candidate_args: Mapping[str, Any] | None = None,
    share: bool = True,
) -> nn.Module:
    """Return a copy of a template with a choice between candidates in every empty slot.

    Slots that stand inside of candidates are empty in the result: a second pass fills them.

    Args:
        model: the template.
        candidates: names of operators, or specs by the names to give them (``filling.Spec``).
        mixed_op: how a search by gradients combines the candidates: the name of a mixed operator,
            or a spec of one, such as ``["gumbel_sum", {"temperature": 5.0}]``. None leaves it to
            the algorithm; one that goes with another refuses the model.
        candidate_args: options of every candidate that is named; a candidate's own come first.
        share: whether a slot's name labels its choice, so that slots of one name decide together;
            else each choice takes its module path.

    Raises:
        InvalidSpace: a candidate does not fit a slot; the message names both.
        UnknownName: no operator has the name.
    """
    specs = {
        name: with_options(spec, candidate_args) for name, spec in specs_of(candidates).items()
    }
    name_labels(model)
    filled = copy.deepcopy(model)
    for slot in empty_slots(filled):
        slot.fill(choice_in(slot, specs, mixed_op, slot.label if share else None))
    name_labels(filled)
    return filled


def choice_in(
    slot: Slot, specs: Mapping[str, Spec], mixed_op: Any, label: str | None
) -> LayerChoice:
    """Return a choice between operators that fit a slot.

    Raises:
        InvalidSpace: one does not.
    """
    choice = LayerChoice(built(slot, specs), label=label)
    choice.mixed_op = mixed_op
    return choice


def with_options(spec: Any, options: Mapping[str, Any] | None) -> Any:
    """Return the spec of a candidate with options that all of them share."""
    if not options or callable(spec):
        return spec
    if isinstance(spec, Mapping):
        return {**spec, "args": {**options, **(spec.get("args") or {})}}
    name, own = (spec[0], spec[1]) if isinstance(spec, list | tuple) else (spec, {})
    return [name, {**options, **own}]
