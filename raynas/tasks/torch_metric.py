"""Objects of torchmetrics: how they are updated by batches and merged over ranks.

Their own ``merge_state`` is not used: it refuses every metric that leaves ``full_state_update``
unset, and averages as if the other had had one batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raynas.core.nest import Nest
from raynas.tasks.metric_state import Accumulator, device_of, named

if TYPE_CHECKING:  # its import takes seconds
    from torchmetrics import Metric


def is_torchmetric(metric: object) -> bool:
    """Return whether it is an object of torchmetrics, without importing that."""
    module = sys.modules.get("torchmetrics")  # where it is not there, nobody has made an object
    return module is not None and isinstance(metric, module.Metric)


def is_collection(metric: object) -> bool:
    """Return whether it is a ``torchmetrics.MetricCollection``."""
    module = sys.modules.get("torchmetrics")
    return module is not None and isinstance(metric, module.MetricCollection)


def can_be_merged(metric: Metric) -> bool:
    """Return whether what several ranks hold is, merged, exactly what one would hold.

    It is where every state is a list of what batches gave, or a sum, maximum or minimum. Metrics
    that hold other metrics, or no state that torchmetrics knows of, are none of these.
    """
    from torchmetrics.utilities.data import dim_zero_max, dim_zero_min, dim_zero_sum

    exact = (dim_zero_sum, dim_zero_max, dim_zero_min)
    states = metric._defaults
    merges = all(
        isinstance(default, list) or metric._reductions[name] in exact
        for name, default in states.items()
    )
    return merges and len(states) > 0 and len(_metrics_in(metric)) == 1


def at_once(metric: Metric, outputs: Nest, targets: Nest) -> Any:
    """Return what a metric gives for all outputs and targets of a split."""
    fresh = _fresh(metric).to("cpu")
    fresh.update(outputs, targets)
    return fresh.compute()


class TorchMetric(Accumulator):
    """Updates a copy of a metric batch by batch.

    Args:
        name: of its column.
        metric: is left as it is.
        measured: returns what it takes of an output and a target.
    """

    def __init__(
        self, name: str, metric: Metric, measured: Callable[[Any, Any], tuple[Nest, Nest]]
    ) -> None:
        self._name, self._metric, self._measured = name, _fresh(metric), measured
        self._received: list[dict[str, Any]] = []  # states of other ranks

    def update(self, output: Nest, target: Nest) -> None:
        """Update the metric, on the device of the output."""
        predictions, target = self._measured(output, target)
        device = device_of(predictions)
        if device is not None and device != self._metric.device:
            self._metric.to(device)
        named(self._name, self._metric.update, predictions, target)

    def data(self) -> list[dict[str, Any]]:
        """Return the states that were reached here and on ranks before; none without a batch."""
        own = [self._metric.metric_state] if self._metric.update_called else []
        return [{name: _moved(s, "cpu") for name, s in state.items()} for state in own] + [
            *self._received
        ]

    def add(self, data: list[dict[str, Any]]) -> None:
        """Take the states of other ranks."""
        self._received += data

    def compute(self) -> dict[str, Any]:
        """Return the one column."""
        metric = self._merged() if self._received else self._metric
        value = named(self._name, metric.compute)
        return {self._name: value}

    def _merged(self) -> Metric:
        merged, states = _fresh(self._metric), self.data()
        for name, default in merged._defaults.items():
            values = [_moved(state[name], merged.device) for state in states]
            if isinstance(default, list):
                value: Any = [part for value in values for part in _as_list(value)]
            else:
                reduce: Any = merged._reductions[name]
                value = reduce(torch.stack(values))
            setattr(merged, name, value)
        merged._update_count = 1  # else it warns that it was never updated
        return merged


def _fresh(metric: Metric) -> Metric:
    fresh = metric.clone()
    fresh.reset()
    for module in _metrics_in(fresh):
        module.sync_on_compute = False  # raynas merges ranks itself
    return fresh


def _metrics_in(metric: Metric) -> list[Metric]:
    return [module for module in metric.modules() if is_torchmetric(module)]  # type: ignore[misc]


def _as_list(value: Tensor | list[Tensor]) -> list[Tensor]:
    return value if isinstance(value, list) else [value]


def _moved(state: Any, device: torch.device | str) -> Any:
    if isinstance(state, list):
        return [_moved(part, device) for part in state]
    return state.to(device) if isinstance(state, Tensor) else state
