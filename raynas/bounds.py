"""Constraints of a search: what can be checked before an evaluation, and whether it can be met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from raynas.assemble import Space
from raynas.core.arch import Arch
from raynas.core.constraints import Constraint
from raynas.core.feasible import Violation

if TYPE_CHECKING:
    from raynas.costs.table import CostTable
    from raynas.data.module import DataModule

CHEAP = ("params", "macs", "activation_bytes")


def bounded(
    space: Space, data: DataModule | None, constraints: Sequence[Constraint]
) -> tuple[Space, tuple[Constraint, ...]]:
    """Return the space with the bounds that its costs alone decide, and all other constraints.

    Samplers propose nothing beyond the bounds; the others are checked after an evaluation.

    Args:
        space: a model's, or a plain ArchSpace, whose metrics only an evaluation gives.
        data: says what the inputs look like; None for a plain ArchSpace.
        constraints: all of the search's.

    Raises:
        ValueError: no architecture keeps one of the bounds; the message says how near one comes.
    """
    cheap = [one for one in constraints if one.metric in CHEAP]
    if not cheap or space.model is None or data is None:
        return space, tuple(constraints)
    import torch

    from raynas.costs.table import CostTable

    table = CostTable(space.model.supernet(), torch.zeros(1, *data.input_shape))
    for constraint in cheap:
        _check_reachable(space, table, constraint)
    violation = Violation(cheap, _Costs(table))
    left = tuple(one for one in constraints if one not in cheap)
    return replace(space, arch=replace(space.arch, violation=violation)), left


class _Costs:
    """The costs of an architecture, by metric."""

    def __init__(self, table: CostTable) -> None:
        self._table = table

    def __call__(self, arch: Arch) -> Mapping[str, float]:
        return self._table.cost(arch).as_metrics()


def _check_reachable(space: Space, table: CostTable, constraint: Constraint) -> None:
    from raynas.costs.extreme import extreme

    metric = constraint.metric
    if constraint.high is not None:
        least = extreme(space.arch, table, metric, "min")
        if least.exact and least.value > constraint.high:
            raise ValueError(
                f"constraint {constraint}: no architecture of {space.spec.name} keeps it; the "
                f"smallest {metric} is {least.value:.6g}"
            )
    if constraint.low is not None:
        most = extreme(space.arch, table, metric, "max")
        if most.exact and most.value < constraint.low:
            raise ValueError(
                f"constraint {constraint}: no architecture of {space.spec.name} keeps it; the "
                f"largest {metric} is {most.value:.6g}"
            )
