"""Constraints of a search: what can be checked before an evaluation, and whether it can be met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from raynas.core.arch import Arch
from raynas.core.config import SearchConfig
from raynas.core.constraints import Constraint, as_constraints
from raynas.core.feasible import Cheap, Violation
from raynas.core.metrics import COSTS, LATENCY
from raynas.setup.latency_source import Latencies
from raynas.setup.proxies import Proxies, proxies
from raynas.setup.resolve import Space
from raynas.storage.run_folder import Folder

if TYPE_CHECKING:
    from raynas.costs.cost_table import Additive
    from raynas.data.module import DataModule


def bounded(
    space: Space,
    data: DataModule | None,
    constraints: Sequence[Constraint],
    latency: Latencies | None = None,
    seed: int = 0,
) -> tuple[Space, tuple[Constraint, ...]]:
    """Return the space with the bounds that are checked beforehand, and all other constraints.

    These are on costs and on what training-free measures say (``raynas.setup.proxies``). Samplers
    propose nothing beyond them; the others are checked after an evaluation.

    Args:
        space: a model's, or a plain ArchSpace, whose metrics only an evaluation gives.
        data: says what the inputs look like; None for a plain ArchSpace.
        constraints: all of the search's.
        latency: a table of it; None leaves it to an evaluation.
        seed: of the fresh weights that are measured.

    Raises:
        ValueError: no architecture keeps one of the bounds, or none of some random ones where only
            measuring tells; the message says how near one comes.
    """
    model = None if data is None else space.model
    counted = [one for one in constraints if model is not None and one.metric in COSTS]
    timed = [one for one in constraints if latency is not None and one.metric == LATENCY]
    others = [one for one in constraints if one not in counted and one.metric != LATENCY]
    known = proxies() if model is not None and others else {}
    proxied = [one for one in others if one.metric in known]
    cheap = [*counted, *timed, *proxied]
    if not cheap:
        return space, tuple(constraints)
    import torch

    from raynas.costs.cost_table import CostTable

    tables: list[Additive] = []
    if model is not None and data is not None:
        tables.append(CostTable(model.supernet(), torch.zeros(1, *data.input_shape)))
    for constraint in counted:  # before latencies are measured, which takes seconds
        _check_reachable(space, tables[0], constraint)
    if latency is not None:
        tables.append(latency.table)
    for constraint in timed:
        _check_reachable(space, tables[-1], constraint)
    measures = None
    if data is not None and proxied:
        measures = Proxies([one.metric for one in proxied], space, data, seed=seed)
        for constraint in proxied:
            measures.check(constraint)
    violation = Violation(cheap, _Costs(tables, measures))
    left = tuple(one for one in constraints if one not in cheap)
    return replace(space, arch=replace(space.arch, violation=violation)), left


def space_within(config: SearchConfig, space: Space, data: DataModule, folder: Folder) -> Space:
    """Return a run's space with its bounds on costs, of the latencies that its folder holds.

    Args:
        config: of the run.
        space: that was searched.
        data: likewise.
        folder: of the run.
    """
    threads, source = config.ray.cpus_per_worker, config.latency
    timed = (
        None
        if source is None
        else Latencies(source, space, data, folder, recorded=True, threads=threads)
    )
    return bounded(space, data, as_constraints(config.constraints), timed, config.seed)[0]


class _Costs:
    """What is known of an architecture without evaluating it, by metric."""

    def __init__(self, tables: Sequence[Additive], measures: Cheap | None = None) -> None:
        self._tables, self._measures = tuple(tables), measures

    def __call__(self, arch: Arch) -> Mapping[str, float]:
        found = {k: v for table in self._tables for k, v in table.cost(arch).as_metrics().items()}
        return found if self._measures is None else {**found, **self._measures(arch)}


def _check_reachable(space: Space, table: Additive, constraint: Constraint) -> None:
    from raynas.costs.cost_bounds import extreme

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
