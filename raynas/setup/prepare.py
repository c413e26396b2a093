"""From a request to the parts of a run, with all that can be checked beforehand checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig, ray_config, validated
from raynas.core.constraints import as_constraints
from raynas.core.file_names import file_name
from raynas.core.final_request import final_request
from raynas.core.goals import goals_of
from raynas.core.versions import versions
from raynas.setup.algorithms import name_of
from raynas.setup.bounds import bounded
from raynas.setup.evaluation import SHARED
from raynas.setup.final_stage import FinalStage, final_stage
from raynas.setup.latency_source import LatencySource, latency_source
from raynas.setup.problem import Data, Problem, Space
from raynas.setup.request import SearchRequest
from raynas.setup.resolve import mapping, resolve_space
from raynas.setup.resolve_data import resolve_data
from raynas.setup.resolve_task import going_by, task_spec, with_task
from raynas.setup.strategy import SearchStrategy, search_strategy
from raynas.storage.run_folder import Folder, absolute, fresh, without_keys
from raynas.storage.run_lock import RunLock


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The parts of a run that may begin.

    Attributes:
        config: of the run, whose folder is claimed.
        problem: space, data and goals.
        strategy: proposes and evaluates.
        latency: where latencies come from; None without.
        final: what comes after the last trial; None if nothing does.
    """

    config: SearchConfig
    problem: Problem
    strategy: SearchStrategy
    latency: LatencySource | None
    final: FinalStage | None = None


def prepared(request: SearchRequest, out: str | None, *, resume: bool, lock: RunLock) -> Prepared:
    """Return the parts of a run, and claim its folder.

    Args:
        request: completed.
        out: folder or URI; None takes ``runs/<space>-<algo>-<n>``.
        resume: whether the run in it goes on.
        lock: takes the folder before anything is written there.

    Raises:
        ValueError, LookupError, TypeError: as ``raynas.search``.
        FileExistsError: ``out`` holds another run.
        FolderInUse: another run writes to it.
        StoreMismatch: it holds one of another space, data, evaluator, ...
    """
    data = _data_of(request)
    objectives = _objectives(request, data)
    if data is not None:
        data = going_by(data, objectives)
    space_options = mapping("space_options", request.space_options)
    space = resolve_space(request.space, space_options, data, request.construct)
    constraints = as_constraints(request.constraints)
    config = _config(request, space, data, objectives, out)
    space = space.seeded(config.seed)
    latency = latency_source(
        request.latency, request.evaluator, space, config, constraints, resume=resume
    )
    space, left = bounded(space, data, constraints, latency, config.seed)
    goals = goals_of(config.objectives, weights=config.scalarize, constraints=left)
    problem = Problem(space=space, data=data, goals=goals, seed=config.seed)
    strategy = search_strategy(
        request.algo,
        problem,
        options=config.algo.options,
        evaluator=request.evaluator,
        supernet=request.supernet,
        epochs=request.epochs,
        timed=latency is not None,
    )
    asked, final = final_request(request.final), None
    if asked is not None:
        final = final_stage(asked, problem, strategy.evaluation, latency)
        config = config.model_copy(update={"final": final.config})
        config.ray.check_trains(final.evaluation.evaluator.epochs)
    config.ray.check_trains(strategy.evaluation.evaluator.epochs)
    if latency is not None:
        _ = latency.tells  # measured or read before the folder is claimed
    config = _completed(config, strategy, latency, resume)
    if final is not None and config.final is not None:
        final = replace(final, config=config.final)  # as it is written, hence read back
    if out is None:  # nothing can be wrong any more that would leave it empty
        config = config.model_copy(update={"out": fresh(stem(space, strategy.algo))})
    folder = Folder(config.out)
    lock.take(config.out)
    folder.begin(config, resume)
    if latency is not None:
        latency.record(folder)
    return Prepared(config=config, problem=problem, strategy=strategy, latency=latency, final=final)


def _objectives(request: SearchRequest, data: Data | None) -> dict[str, str]:
    """Return what was asked for, or what the task goes by."""
    if request.objectives is not None:
        return mapping("objectives", request.objectives)
    if data is None:
        return {"accuracy": "max"}
    metric, goal = data.module.task.objective
    return {metric: goal}


def _config(
    request: SearchRequest,
    space: Space,
    data: Data | None,
    objectives: Mapping[str, str],
    out: str | None,
) -> SearchConfig:
    """Return the configuration as far as the request alone says it."""
    constraints = as_constraints(request.constraints)
    options = mapping("options", request.options)
    fields: dict[str, Any] = {
        "space": space.spec,
        "algo": ComponentSpec(name=name_of(request.algo), options=options),
        "evaluator": ComponentSpec(name=SHARED),
        "objectives": objectives,
        "scalarize": mapping("scalarize", request.scalarize),
        "constraints": {bound.metric: (bound.low, bound.high) for bound in constraints},
        "trials": request.trials,
        "seed": request.seed,
        "out": absolute(str(out or "runs")),
        "ray": ray_config(request.ray),
        "input_shape": None if space.model_space is None else space.model_space.input_shape,
        "inputs": None if space.model_space is None else space.model_space.signature,
        "task": None if data is None else task_spec(data.module.task),
        "task_metric": "accuracy" if data is None else data.module.task.objective[0],
        "space_digest": space.digest,
        "versions": versions(),
    }
    return validated(SearchConfig, fields)


def _completed(
    config: SearchConfig, strategy: SearchStrategy, latency: LatencySource | None, resume: bool
) -> SearchConfig:
    """Return the configuration as the run folder keeps it."""
    most, evaluation = strategy.max_trials, strategy.evaluation
    parts = {
        "algo": strategy.algo,
        "evaluator": evaluation.component,
        "data": evaluation.data,
        "supernet": None if evaluation.supernet is None else evaluation.supernet.spec,
        "trials": config.trials if resume or most is None else min(config.trials, most),
        "latency": None if latency is None else latency.source,
    }
    completed = config.model_copy(update=parts)
    return SearchConfig.from_json(json.dumps(without_keys(completed.model_dump(mode="json"))))


def _data_of(request: SearchRequest) -> Data | None:
    """Return the data; None where nothing uses any.

    Raises:
        ValueError: data are given to a plain ArchSpace.
    """
    told = {"task": request.task, "loss": request.loss, "metrics": request.metrics}
    given = [name for name, value in told.items() if value is not None]
    if given and (request.data is None or isinstance(request.space, ArchSpace)):
        raise ValueError(f"{given[0]} is of data, and this search uses none: leave it out")
    if isinstance(request.space, ArchSpace):
        if request.data is not None or request.data_options:
            raise ValueError("an ArchSpace is searched with a function, which uses no data of ours")
        return None
    if request.data is None:
        return None
    data = resolve_data(request.data, mapping("data_options", request.data_options))
    return with_task(data, request.task, request.loss, request.metrics)


def stem(space: Space, algo: ComponentSpec) -> str:
    """Return what an unnamed run folder's name begins with."""
    return f"{file_name(space.spec.name.rpartition(':')[2])}-{algo.name}"
