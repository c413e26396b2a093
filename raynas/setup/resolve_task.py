"""The task behind what a user gives, and how a run folder names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raynas.core.config import ComponentSpec
from raynas.core.recorded_objects import recorded_object
from raynas.setup.objects import KNOWN_AS, recorded
from raynas.setup.problem import Data

if TYPE_CHECKING:
    from raynas.tasks import Task

LOSS, METRICS, OBJECTIVE = "loss", "metrics", "objective"  # a user's own, beside a task's options


def with_task(data: Data, task: Any, loss: Any = None, metrics: Any = None) -> Data:
    """Return data with the task that is to be learned from them.

    Args:
        data: whose own task stays where nothing else is said.
        task: a registered name, alone or with options as ``Registry.build`` takes them, a Task, or
            how a run folder names one.
        loss: in place of the task's.
        metrics: further ones, by column.

    Raises:
        ValueError, LookupError, TypeError: there is no such task, or its parts do not fit.
    """
    if task is None and loss is None and metrics is None:
        return data
    from raynas.tasks.resolve import task_of

    recorded_task = isinstance(task, ComponentSpec)
    made = (
        rebuild_task(task, loss, metrics)
        if recorded_task
        else task_of(task, loss=loss, metrics=metrics)
    )
    return replace(data, module=data.module.learning(made))


def going_by(data: Data, objectives: Mapping[str, str]) -> Data:
    """Return data whose task goes by the one objective of a search, if that is a metric of it.

    What is validated, retrained and verified then goes by the same number as the search.
    """
    task = data.module.task
    if len(objectives) != 1:
        return data
    ((metric, goal),) = objectives.items()
    if metric not in task.metrics or task.objective == (metric, goal):
        return data
    own = task.with_own(objective=f"{metric}:{goal}")
    return replace(data, module=data.module.learning(own))


def task_spec(task: Task) -> ComponentSpec:
    """Return how the run folder names a task: functions and classes by their import path."""
    options = task.options()
    if task.own_loss is not None:
        options[LOSS] = recorded(task.own_loss)
    if task.own_metrics:
        options[METRICS] = {name: recorded(metric) for name, metric in task.own_metrics.items()}
    if task.own_objective is not None:
        options[OBJECTIVE] = task.own_objective
    return ComponentSpec(name=task.name, options=options)


def rebuild_task(spec: ComponentSpec, loss: Any = None, metrics: Any = None) -> Task:
    """Return the task that a run folder names.

    Args:
        spec: its name and options.
        loss: the user's own, given anew; None imports it where there was one.
        metrics: likewise.

    Raises:
        LookupError: a loss or metric was a user's own and cannot be imported here.
    """
    from raynas.tasks.resolve import task_of

    parts = {name: spec.options[name] for name in (LOSS, METRICS) if name in spec.options}
    own = {name: part for name, part in parts.items() if not isinstance(part, str)}  # no name
    options = {name: value for name, value in spec.options.items() if name not in own}
    objective = options.pop(OBJECTIVE, None)
    loss = _imported(LOSS, own.get(LOSS)) if loss is None else loss
    if metrics is None:
        recorded_parts = own.get(METRICS, {}).items()
        metrics = {name: _imported(name, part) for name, part in recorded_parts} or None
    named = None if spec.name == "own" else (spec.name, options)
    return task_of(named, loss=loss, metrics=metrics, objective=objective)


def _imported(name: str, part: Any) -> Any:
    """Return a loss or metric that a run folder names."""
    if part is None:
        return None
    path = part.get(KNOWN_AS) if isinstance(part, Mapping) else None
    try:
        if not isinstance(path, str) or ":" not in path:
            raise LookupError(f"it is known as {path!r} only")
        return recorded_object(path)
    except LookupError as error:
        raise LookupError(
            f"{name!r} of this run's task was a user's own: {error}; pass task=, or loss= and "
            "metrics="
        ) from error
