"""How metrics are accumulated over batches and ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from raynas.core.nest import Nest, described, leaves, mapped, rows, zipped

Values: TypeAlias = Mapping[str, Any]  # numbers, or tensors of one number, by column


class MetricFailed(ValueError):
    """A metric raises; its cause is what it raises."""


def named(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a metric's function, and name the metric in what it raises.

    Raises:
        MetricFailed: it raises.
    """
    try:
        return function(*args)
    except Exception as error:
        text = " ".join(str(error).split())
        raise MetricFailed(f"metric {name!r} fails: {type(error).__name__}: {text}") from error


class Accumulator(ABC):
    """Takes batches one by one, and keeps less than all of them."""

    @abstractmethod
    def update(self, output: Nest, target: Nest) -> None:
        """Take a batch."""

    @abstractmethod
    def data(self) -> Any:
        """Return what was taken, as plain data on the CPU, for the accumulator of another rank."""

    @abstractmethod
    def add(self, data: Any) -> None:
        """Take what another rank's accumulator gave."""

    @abstractmethod
    def compute(self) -> Values:
        """Return columns."""


class Sums(Accumulator):
    """Tensors that are summed over batches.

    Args:
        of_batch: returns a batch's summands by name, of the same shapes for every batch.
        columns: returns columns from the sums.
        combine: merges the summands of two sets of examples into those of both.
    """

    def __init__(
        self,
        of_batch: Callable[[Any, Any], dict[str, Tensor]],
        columns: Callable[[dict[str, Tensor]], Values],
        combine: Callable[[dict[str, Tensor], dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        self._of_batch, self._columns, self._combine = of_batch, columns, combine or _added
        self._sums: dict[str, Tensor] | None = None

    def update(self, output: Nest, target: Nest) -> None:
        """Add a batch's summands."""
        self.add(self._of_batch(output, target))

    def data(self) -> dict[str, Tensor] | None:
        """Return the sums; None before the first batch."""
        return None if self._sums is None else {name: s.cpu() for name, s in self._sums.items()}

    def add(self, data: dict[str, Tensor] | None) -> None:
        """Add the sums of another rank, which has None if it had no batch."""
        if data is None or self._sums is None:
            self._sums = self._sums if data is None else data
            return
        own = self._sums
        other = {name: part.to(own[name].device) for name, part in data.items()}
        self._sums = self._combine(own, other)

    def compute(self) -> Values:
        """Return columns from the sums."""
        assert self._sums is not None
        return self._columns(self._sums)


def _added(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: first[name] + second[name] for name in first}


class Whole:
    """Columns that are computed at once over all outputs and targets of a split.

    Args:
        compute: returns columns from concatenated outputs and targets.
        on_cpu: whether it is given them on the CPU, where NumPy's functions can read them.
    """

    def __init__(self, compute: Callable[[Any, Any], Values], *, on_cpu: bool = False) -> None:
        self.compute, self.on_cpu = compute, on_cpu


Part: TypeAlias = Accumulator | Whole


class MetricState:
    """The metrics of a task over the batches of a split, and over the ranks that had them.

    Outputs are kept only if a part is a ``Whole``. A pickled state holds what it has taken and
    nothing to compute with, since functions of a user's own need not pickle: it is merged into
    one that the task made where it arrives.

    Args:
        columns: names, in order.
        parts: what computes them; of two that give the same column, the later counts.
        measured: returns what is kept of an output and a target.

    Attributes:
        rows: how many examples were taken.
    """

    def __init__(
        self,
        columns: Sequence[str],
        parts: Sequence[Part],
        measured: Callable[[Any, Any], tuple[Nest, Nest]],
    ) -> None:
        self.rows = 0
        self._columns, self._parts, self._measured = tuple(columns), list(parts), measured
        self._accumulators = [part for part in parts if isinstance(part, Accumulator)]
        self._keeps = len(self._accumulators) < len(self._parts)
        self._kept: list[tuple[Nest, Nest]] = []
        self._received: dict[str, Any] | None = None

    @torch.no_grad()
    def update(self, output: Nest, target: Nest) -> None:
        """Take a batch.

        Args:
            output: as ``Task.output`` returns it.
            target: as the data hold it; None if there is none.
        """
        output = mapped(_detached, output)
        self.rows += row_count(output, target)
        for part in self._accumulators:
            part.update(output, target)
        if self._keeps:
            self._kept.append(self._measured(output, target))

    def merge(self, other: MetricState) -> None:
        """Take what the state of another rank has taken, after what this one has."""
        self._refuse_if_pickled()
        data = other.data()
        self.rows += data["rows"]
        self._kept += data["kept"]
        for part, taken in zip(self._accumulators, data["taken"], strict=True):
            part.add(taken)

    def data(self) -> dict[str, Any]:
        """Return what was taken, as plain data on the CPU."""
        if self._received is not None:
            return self._received
        return {
            "rows": self.rows,
            "kept": mapped(_on_cpu, self._kept),
            "taken": [part.data() for part in self._accumulators],
        }

    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """Return a number for each column.

        Raises:
            ValueError: no example was taken, or a metric fails or gives something else.
            TypeError: the state was pickled.
        """
        self._refuse_if_pickled()
        if not self.rows:
            raise ValueError("metrics need at least one example, got none")
        values: dict[str, Any] = {}
        whole = self._whole() if self._keeps else (None, None)
        for part in self._parts:
            if isinstance(part, Accumulator):
                values |= part.compute()
            else:
                values |= part.compute(*(mapped(_on_cpu, whole) if part.on_cpu else whole))
        return numbers({name: values[name] for name in self._columns})

    def _refuse_if_pickled(self) -> None:
        if self._received is not None:
            raise TypeError("a pickled MetricState holds no metrics: merge it into task.state()")

    def _whole(self) -> tuple[Nest, Nest]:
        outputs, targets = zip(*self._kept, strict=True)
        return zipped(_joined, outputs), zipped(_joined, targets)

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self.rows, "_received": self.data()}


def row_count(output: Nest, target: Nest) -> int:
    """Return how many examples a batch has; one where no tensor tells."""
    for nest in (target, output):
        tensors = [leaf for leaf in leaves(nest) if isinstance(leaf, Tensor) and leaf.dim()]
        if tensors:
            return rows(tensors)
    return 1


def device_of(nest: Nest) -> torch.device | None:
    """Return the device of a nest's first tensor; None without one."""
    return next((leaf.device for leaf in leaves(nest) if isinstance(leaf, Tensor)), None)


def numbers(values: Values) -> dict[str, float]:
    """Return values as floats, in one transfer where all are tensors of one device.

    Raises:
        ValueError: one is not a single number.
    """
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    single = all(value.numel() == 1 for value in tensors)
    if single and len(tensors) == len(values) and len({value.device for value in tensors}) == 1:
        flat = torch.stack([value.double().reshape(()) for value in tensors])
        return dict(zip(values, flat.tolist(), strict=True))
    return {name: _number(name, value) for name, value in values.items()}


def _number(name: str, value: Any) -> float:
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        pass
    raise ValueError(f"metric {name!r} gives {described(value)}, expected one number")


def _joined(parts: list[Any]) -> Any:
    first = parts[0]
    if first is None:
        return None
    if not isinstance(first, Tensor) or not first.dim():
        raise ValueError(
            f"outputs and targets hold {described(first)}, which cannot be put together over "
            "batches: expected tensors of rows; a task with keeps_outputs = False averages losses"
        )
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"batches of shapes (rows, ...) with ... = {sorted(shapes)} cannot be put together, as "
            "a function of all outputs needs: pad them to one shape, or use a torchmetrics object"
        )
    return torch.cat([part.to(first.device) for part in parts])


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _on_cpu(leaf: Any) -> Any:
    return leaf.cpu() if isinstance(leaf, Tensor) else leaf
