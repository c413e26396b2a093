"""From what a user gives to a task."""

from __future__ import annotations

import inspect
from typing import Any

from raynas.core.split_spec import split_spec
from raynas.tasks.task import TASKS, Task

DEFAULT = "classification"


def task_of(
    task: object = None, loss: Any = None, metrics: Any = None, objective: str | None = None
) -> Task:
    """Return the task that a user means.

    >>> task_of().name, task_of("regression", loss="mae").objective
    ('classification', ('r2', 'max'))

    Args:
        task: a task; or a name, ``[name, {option: value}]`` or ``{"type": name, "args": {...}}``.
            None is a task of the user's own if there is a loss, else classification.
        loss: in place of the task's.
        metrics: besides the task's, by column.
        objective: in place of the task's.

    Raises:
        UnknownName: no task has this name.
        TypeError: something of another kind.
        ValueError: an option, loss, metric or objective that does not fit.
    """
    if task is None and loss is not None:
        return Task(loss=loss, metrics=metrics, objective=objective)
    made = task if isinstance(task, Task) else _built(DEFAULT if task is None else task)
    if loss is None and metrics is None and objective is None:
        return made
    return made.with_own(loss=loss, metrics=metrics, objective=objective)


def _built(spec: object) -> Task:
    made: Task = TASKS.build(spec)
    name, options = split_spec(spec)
    true_name = TASKS.name_of(name)
    # a class keeps its options as attributes; only a function's are known here alone
    return made.named(true_name, None if inspect.isclass(TASKS[true_name]) else options)
