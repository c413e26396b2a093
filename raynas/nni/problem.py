"""What a trainer is given, as a search takes it: model, examples, metrics, device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset

from raynas.core.config import RayConfig
from raynas.core.nest import Nest, call
from raynas.data.examples import is_class_index
from raynas.data.split import split_of
from raynas.data.tensor_data import TensorData
from raynas.nn.mutable import activate, space_of

MetricsFunction = Callable[[Any, Any], Any]
REWARD = "reward_function"  # column of what ENAS is rewarded by


class ModelCopies:
    """Builds copies of a model, each with its weights.

    Args:
        model: is left as it is.

    Raises:
        TypeError: it is no module.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            kind = model.__name__ if isinstance(model, type) else type(model).__name__
            raise TypeError(f"model: expected an nn.Module with choices, got {kind}")
        self._model = copy.deepcopy(model).cpu()
        self.__name__ = type(model).__name__
        # how a run folder names it, which can import the class where that takes no arguments
        self.__module__, self.__qualname__ = type(model).__module__, type(model).__qualname__

    def __call__(self) -> nn.Module:
        """Return a copy."""
        return copy.deepcopy(self._model)


class Column:
    """One entry of what a function of metrics returns.

    Args:
        function: of (outputs, targets) that returns a dict, or a number.
        name: of the entry.
    """

    def __init__(self, function: MetricsFunction, name: str) -> None:
        self.function, self.name = function, name

    def __call__(self, outputs: Any, targets: Any) -> Any:
        """Return the entry."""
        values = self.function(outputs, targets)
        return values[self.name] if isinstance(values, Mapping) else values


def halved(dataset: Any) -> tuple[Any, Any]:
    """Return both halves of a dataset; of an odd number the second has one more."""
    return divided(dataset, len(dataset) - len(dataset) // 2)


def divided(dataset: Any, last: int) -> tuple[Any, Any]:
    """Return all but the last examples of a dataset, and these.

    Raises:
        TypeError: it is no dataset with a length.
        ValueError: one of both would have no examples.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        kind = type(dataset).__name__
        raise TypeError(f"dataset_train: expected a map-style dataset with a length, got a {kind}")
    count = len(dataset)
    if not 0 < last < count:
        raise ValueError(f"dataset_train: {count} examples are too few to train on a part of them")
    return Subset(dataset, range(count - last)), Subset(dataset, range(count - last, count))


def metric_columns(
    metrics: MetricsFunction | None,
    reward: MetricsFunction | None,
    model: nn.Module,
    data: TensorData,
) -> dict[str, Column] | None:
    """Return metrics by column, found by asking for those of two examples.

    Args:
        metrics: of (outputs, targets), returns a dict of numbers, or one number.
        reward: another column.
        model: computes the outputs.
        data: holds the examples.

    Raises:
        TypeError: one of both is no function.
        ValueError: the function returns something else, or fails.
    """
    for name, function in (("metrics", metrics), (REWARD, reward)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}: expected a function of (outputs, targets), got {function!r}")
    columns = {} if reward is None else {REWARD: Column(reward, REWARD)}
    if metrics is not None:
        columns |= {name: Column(metrics, name) for name in _names(metrics, model, data)}
    return columns or None


def _names(metrics: MetricsFunction, model: nn.Module, data: TensorData) -> list[str]:
    inputs, targets = first_examples(data)
    twin = copy.deepcopy(model).cpu().eval()
    activate(twin, space_of(twin).sample(np.random.default_rng(0)))
    with torch.no_grad():
        out = call(twin, inputs)
        main = out[0] if isinstance(out, tuple | list) else out  # others are auxiliary
        try:
            values = metrics(main, targets)
        except Exception as error:
            raise ValueError(f"metrics fails: {type(error).__name__}: {error}") from error
    entries = values if isinstance(values, Mapping) else {"metric": values}
    for name, value in entries.items():
        try:
            float(value)
        except (TypeError, ValueError, RuntimeError):
            where = f"its entry {name!r} is" if entries is values else "it returned"
            kind = type(value).__name__
            raise ValueError(
                f"metrics: expected a dict of numbers, or one number; {where} a {kind}: {value!r}"
            ) from None
    return [str(name) for name in entries]


def first_examples(data: TensorData) -> tuple[Nest, Nest]:
    """Return inputs and targets of the first two examples that are trained on."""
    split = split_of(data.load().train)
    return split.some(range(min(2, len(split))))


def task_for(given: Any, data: TensorData) -> Any:
    """Return the task: a classification where targets are classes; else None, the loss alone."""
    if given is not None:
        return given
    _, targets = first_examples(data)
    return "classification" if is_class_index(targets) else None


def ray_for(
    device: Any, ray: RayConfig | Mapping[str, Any] | None, ranks: int = 1
) -> RayConfig | Mapping[str, Any] | None:
    """Return how Ray is used where a device is asked for; what ``ray`` says comes first.

    Args:
        device: ``cpu``, ``cuda``, or None.
        ray: as for ``raynas.search``.
        ranks: GPUs that train together.

    Raises:
        ValueError: another device.
    """
    kind = None if device is None else torch.device(device).type
    if kind not in (None, "cpu", "cuda"):
        raise ValueError(f"device: expected cpu or cuda, got {device}")
    if kind != "cuda":
        return ray
    gpus: dict[str, Any] = {"gpus_per_train_worker": 1.0, "gpus_per_worker": 1.0}
    gpus |= {"train_workers": ranks} if ranks > 1 else {}
    said = ray.model_dump(exclude_unset=True) if isinstance(ray, RayConfig) else dict(ray or {})
    return {**gpus, **said}


def parts(train: Any, valid: Any, test: Any = None) -> Sequence[Any]:
    """Return the splits that there are."""
    return (train, valid) if test is None else (train, valid, test)
