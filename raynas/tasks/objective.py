"""What a search optimises where nothing is said: a column of the task, and its direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from raynas.core.errors import nearest
from raynas.core.objectives import Goal
from raynas.tasks.torch_metric import is_torchmetric

Objective: TypeAlias = tuple[str, Goal]


def parsed_objective(
    text: str,
    columns: Sequence[str],
    lower_is_better: Sequence[str],
    own_metrics: Mapping[str, Any],
) -> Objective:
    """Read ``column:max``, ``column:min`` or a column alone, whose direction follows from it.

    >>> parsed_objective("loss", ["accuracy", "loss"], ["loss"], {})
    ('loss', 'min')

    Args:
        text: what is given.
        columns: that the task measures.
        lower_is_better: those of them that are minimised.
        own_metrics: by column; an object of torchmetrics may know its direction.

    Raises:
        TypeError: it is no text.
        ValueError: there is no such column or direction.
    """
    if not isinstance(text, str):
        raise TypeError(f"objective must be text such as 'loss:min', got {text!r}")
    column, colon, goal = text.partition(":")
    if column not in columns:
        raise ValueError(f"objective {text!r}: no metric {column!r}; {nearest(column, columns)}")
    if not colon:
        metric = own_metrics.get(column)
        higher = column not in lower_is_better
        if metric is not None:
            higher = not is_torchmetric(metric) or metric.higher_is_better is not False
        return column, "max" if higher else "min"
    if goal == "max":
        return column, "max"
    if goal == "min":
        return column, "min"
    raise ValueError(f"objective {text!r}: expected 'max' or 'min' after ':', got {goal!r}")
