"""Choices by label, or in the order of labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.core.fixed import read_arch
from raynas.nn.construct.chain import CONSTRUCTORS
from raynas.nn.construct.description import parsed
from raynas.nn.mutable import frozen, space_of
from raynas.nn.slot import empty_slots

NUMBERED = re.compile(r"c_(\d+)")


@CONSTRUCTORS.register("params", aliases=("DefaultParamsConstructor",))
def params(model: nn.Module, *, arch_desc: Any) -> nn.Module:
    """Return the network that choices describe, as the exporter ``params`` writes them.

    Args:
        model: a supernet; it stays as it is.
        arch_desc: a dict from label to choice in any form that ``read_arch`` reads, or the list
            of choices of all labels reached, in their order; a dict whose keys are ``c_0``,
            ``c_1``, ..., none of them a label, is such a list too; the text of either, or the path
            of a file.

    Raises:
        InvalidArch: the model's space does not hold it.
        InvalidSpace: the model has an empty slot, which no label decides.
        OSError: the file cannot be read.
    """
    if empty := empty_slots(model):
        raise InvalidSpace(f"{empty[0]} is empty: fill it first, as by mixed_op")
    space, given = space_of(model), parsed(arch_desc)
    given = numbered(space, given)
    if isinstance(given, Mapping):
        return frozen(model, read_arch(space, given), {})
    if not isinstance(given, list | tuple):
        raise InvalidArch(f"expected a dict from label to choice, or a list, got {given!r}")
    return frozen(model, in_order(space, given), {})


def numbered(space: ArchSpace, given: Any) -> Any:
    """Return the choices of numbered decisions in their order, anything else as it is."""
    if not isinstance(given, Mapping) or not given or {*given} & {*space.labels}:
        return given
    numbers = [NUMBERED.fullmatch(key) if isinstance(key, str) else None for key in given]
    if not all(numbers):
        return given
    order = sorted(zip((int(n[1]) for n in numbers if n), given.values(), strict=True), key=_first)
    return [choice for _, choice in order]


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]


def in_order(space: ArchSpace, values: Sequence[Any]) -> Arch:
    """Return the architecture whose reached labels have these choices, in order."""
    taken: dict[str, Value] = {}
    pending: list[Decision] = list(space.choices)
    left = list(values)
    while pending:
        decision = pending.pop(0)
        if decision.label not in taken:
            if not left:
                few = f"expected more than {len(values)} choices"
                raise InvalidArch(f"{few}: there is none for {decision.label!r}")
            alone = ArchSpace((replace(decision, opens={}),))
            taken |= read_arch(alone, {decision.label: left.pop(0)})
        opened = decision.opened(taken[decision.label])
        pending = [inner for subspace in opened for inner in subspace.choices] + pending
    if left:
        raise InvalidArch(f"expected {len(values) - len(left)} choices, got {len(values)}")
    return Arch(taken)
