"""Metrics of a user's own: functions of all outputs and targets, and objects of torchmetrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from raynas.core.evaluator import RESERVED
from raynas.core.metrics import COSTS, LATENCY
from raynas.core.nest import Nest
from raynas.tasks.metric_state import Part, Whole, named
from raynas.tasks.torch_metric import (
    TorchMetric,
    at_once,
    can_be_merged,
    is_collection,
    is_torchmetric,
)

LOSS = "loss"  # the column of the task's loss
COLUMN_OF_CHOICE = "choice."


def own_metrics(given: Any) -> dict[str, Callable[..., Any]]:
    """Return own metrics by column.

    Args:
        given: a mapping from column to function or object of torchmetrics, a
            ``torchmetrics.MetricCollection``, or None.

    Raises:
        TypeError: it is something else, or a metric is.
        ValueError: a column cannot be named so.
    """
    if given is None:
        return {}
    if is_collection(given):
        given = dict(given.items())
    if not isinstance(given, Mapping):
        raise TypeError(
            "metrics must be a dict from name to function or torchmetrics object, such as "
            f"{{'f1': function}}, got {given!r}"
        )
    for name, metric in given.items():
        _check_name(name)
        _check_metric(name, metric)
    return dict(given)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"a metric's name must be a non-empty string, got {name!r}")
    if name == LOSS:
        raise ValueError("metric 'loss' is the task's loss: give it as loss=, or rename it")
    if name in (*COSTS, LATENCY):
        raise ValueError(f"metric {name!r} is a cost that raynas measures itself; rename it")
    if name in RESERVED or name.startswith(COLUMN_OF_CHOICE):
        raise ValueError(f"metric {name!r} is named like a column of the trial table; rename it")
    if ":" in name:
        raise ValueError(f"metric {name!r}: a name holds no ':', which ends it in an objective")


def _check_metric(name: str, metric: object) -> None:
    if inspect.isclass(metric):
        raise TypeError(
            f"metric {name!r} is the class {metric.__name__}, expected an object: "
            f"{metric.__name__}(...)"
        )
    if is_collection(metric):
        raise TypeError(f"metric {name!r} is a MetricCollection: give it as metrics= itself")
    if not callable(metric):
        raise TypeError(
            f"metric {name!r} must be a function of (outputs, targets) or a torchmetrics object, "
            f"got {metric!r}"
        )


def parts_of(
    metrics: Mapping[str, Any], measured: Callable[[Any, Any], tuple[Nest, Nest]]
) -> list[Part]:
    """Return what accumulates own metrics.

    Args:
        metrics: by column.
        measured: returns what metrics take of an output and a target.
    """
    parts: list[Part] = []
    functions: dict[str, Callable[..., Any]] = {}
    for name, metric in metrics.items():
        if not is_torchmetric(metric):
            functions[name] = metric
        elif can_be_merged(metric):
            parts.append(TorchMetric(name, metric, measured))
        else:
            functions[name] = partial(at_once, metric)
    if functions:
        parts.append(Whole(partial(_values, functions), on_cpu=True))
    return parts


def _values(
    functions: Mapping[str, Callable[..., Any]], outputs: Nest, targets: Nest
) -> dict[str, Any]:
    return {name: named(name, function, outputs, targets) for name, function in functions.items()}
