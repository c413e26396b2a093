"""Constraints of a search: what can be checked before an evaluation, and whether it can be met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from raynas.core.arch import Arch
from raynas.core.config import SearchConfig
from raynas.core.constraints import Constraint, as_constraints
from raynas.core.feasible import Cheap, Violation
from raynas.core.metrics import LATENCY
from raynas.setup.latency_source import LatencySource
from raynas.setup.problem import Data, Space
from raynas.setup.proxies import KEPT, Proxies, proxies
from raynas.storage.run_folder import Folder

if TYPE_CHECKING:
    from raynas.costs.cost_table import Additive


def bounded(
    space: Space,
    data: Data | None,
    constraints: Sequence[Constraint],
    latency: LatencySource | None = None,
    seed: int = 0,
) -> tuple[Space, tuple[Constraint, ...]]:
    """Return the space with the bounds that are checked beforehand, and all other constraints.

    These are on costs and on what training-free measures say (``raynas.setup.proxies``). Samplers
    propose nothing beyond them; the others are checked after an evaluation.

    Args:
        space: a model's, or a plain ArchSpace, whose metrics only an evaluation gives.
        data: that training-free measures look at.
        constraints: all of the search's.
        latency: a table of it; without one, it is left to an evaluation.
        seed: of the fresh weights that are measured.

    Raises:
        ValueError: no architecture keeps one of the bounds, or none of some random ones where only
            measuring tells; the message says how near one comes.
    """
    counted, timed, proxied = _sorted(space, data, constraints, latency)
    cheap = [*counted, *timed, *proxied]
    if not cheap:
        return space, tuple(constraints)
    from raynas.costs.space_table import space_table

    tables: list[Additive] = []
    if space.model_space is not None and space.model_space.signature is not None:
        tables.append(space_table(space.model_space))
    for constraint in counted:  # before latencies are measured, which takes seconds
        _check_reachable(space, tables[0], constraint)
    if latency is not None and latency.looked_up:
        tables.append(latency.table)
    for constraint in timed:
        _check_reachable(space, tables[-1], constraint)
    measures = None
    if data is not None and proxied:
        measures = Proxies([c.metric for c in proxied], space, data.module, seed=seed)
        for constraint in proxied:
            measures.check(constraint)
    violation = Violation(cheap, _Costs(tables, measures))
    left = tuple(constraint for constraint in constraints if constraint not in cheap)
    return replace(space, arch_space=replace(space.arch_space, violation=violation)), left


def _sorted(
    space: Space,
    data: Data | None,
    constraints: Sequence[Constraint],
    latency: LatencySource | None,
) -> tuple[list[Constraint], list[Constraint], list[Constraint]]:
    """Return the constraints that are counted, looked up in a latency table, and measured."""
    model_space = space.model_space
    counts: tuple[str, ...] = ()
    if model_space is not None and model_space.signature is not None:
        counts = model_space.costs
    counted = [c for c in constraints if c.metric in counts]
    known = latency is not None and latency.looked_up
    timed = [c for c in constraints if known and c.metric == LATENCY]
    others = [c for c in constraints if c not in counted and c.metric != LATENCY]
    measured = proxies() if model_space is not None and data is not None and others else {}
    return counted, timed, [c for c in others if c.metric in measured]


def space_within(config: SearchConfig, space: Space, data: Data | None, folder: Folder) -> Space:
    """Return a run's space with its bounds on costs, of the latencies that its folder holds.

    Args:
        config: of the run.
        space: that was searched.
        data: likewise.
        folder: of the run.
    """
    threads, source = config.ray.cpus_per_worker, config.latency
    latency = (
        None
        if source is None
        else LatencySource(source, space, folder, recorded=True, threads=threads)
    )
    return bounded(space, data, as_constraints(config.constraints), latency, config.seed)[0]


def costs_beforehand(space: Space) -> Cheap | None:
    """Return what gives an architecture's costs without evaluating it, each looked up once.

    None where nothing is known of them.
    """
    violation, model = space.arch_space.violation, space.model_space
    if isinstance(violation, Violation):
        return lru_cache(KEPT)(violation.costs)
    if model is None or model.signature is None:
        return None

    @lru_cache(KEPT)
    def costs(arch: Arch) -> Mapping[str, float]:
        from raynas.costs.space_table import space_table

        return space_table(model).cost(arch).as_metrics()

    return costs


class _Costs:
    """What is known of an architecture without evaluating it, by metric."""

    def __init__(self, tables: Sequence[Additive], measures: Cheap | None = None) -> None:
        self._tables, self._measures = tuple(tables), measures

    def __call__(self, arch: Arch) -> Mapping[str, float]:
        costs = {k: v for table in self._tables for k, v in table.cost(arch).as_metrics().items()}
        return costs if self._measures is None else {**costs, **self._measures(arch)}


def _check_reachable(space: Space, table: Additive, constraint: Constraint) -> None:
    from raynas.costs.cost_bounds import cost_bound

    metric = constraint.metric
    if constraint.high is not None:
        least = cost_bound(space.arch_space, table, metric, "min")
        if least.exact and least.value > constraint.high:
            raise ValueError(
                f"constraint {constraint}: no architecture of {space.spec.name} keeps it; the "
                f"smallest {metric} is {least.value:.6g}"
            )
    if constraint.low is not None:
        most = cost_bound(space.arch_space, table, metric, "max")
        if most.exact and most.value < constraint.low:
            raise ValueError(
                f"constraint {constraint}: no architecture of {space.spec.name} keeps it; the "
                f"largest {metric} is {most.value:.6g}"
            )
