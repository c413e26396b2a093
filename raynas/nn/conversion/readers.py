"""What of each module of a model follows which decisions, and what it is for their values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from torch import nn

from raynas.core.arch import Value
from raynas.nn.conversion.axes import Count
from raynas.nn.conversion.counts import Origin, changed
from raynas.nn.conversion.cuts import Cut, Kept, Lengths, Stretches, centre
from raynas.nn.conversion.plan import Kernel, Plan, Skip
from raynas.nn.conversion.skipped import Skipped

Values = Mapping[str, Value]  # of every decision; of those that are not reached the largest


@dataclass(frozen=True, eq=False)
class Reader:
    """An attribute of a module that is read as it is cut.

    Attributes:
        module: that has it.
        name: of the attribute.
        labels: of the decisions that it follows.
        read: returns what is read in its place; None where it is as in the whole model.
    """

    module: nn.Module
    name: str
    labels: tuple[str, ...]
    read: Callable[[Values], Any]


def readers_of(model: nn.Module, plan: Plan) -> list[Reader]:
    """Return what in a model follows the decisions of its plan."""
    return [reader for reader in _Readers(model, plan) if reader.labels]


class _Lying:
    """Axes that lie on a dimension of some tensors.

    Args:
        plan: of the model.
        axes: by their numbers.
        lengths: what stays of the dimension.
    """

    def __init__(self, plan: Plan, axes: Sequence[int], lengths: Lengths) -> None:
        self.axes, self._plan, self._lengths = axes, plan, lengths
        self._last: tuple[Values, Kept | None] = {}, None  # several tensors ask for the same

    def kept(self, values: Values) -> Kept | None:
        """Return what stays; None if that is all."""
        if self._last[0] is not values:
            units = tuple([self._plan.units(number, values) for number in self.axes])
            self._last = values, self._lengths.kept(units)
        return self._last[1]


class _Readers:
    """Reads a model by its plan; equal cuts are one object."""

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        self._model, self._plan = model, plan
        self._cuts: WeakValueDictionary[Any, Cut] = WeakValueDictionary()
        self._others: dict[Any, Any] = {}  # what lies on dimensions, configurations, ...

    def __iter__(self) -> Iterator[Reader]:
        plan, modules = self._plan, dict(self._model.named_modules())
        yield from self._of_tensors()
        by_attribute: dict[tuple[str, str], list[tuple[Origin, Count]]] = defaultdict(list)
        for origin, count in plan.counts.items():
            by_attribute[origin.module, origin.attribute].append((origin, count))
        for (path, attribute), counts in by_attribute.items():
            labels = self._labels(number for _, count in counts for number in count.per_unit)
            read = partial(self._numbers, vars(modules[path])[attribute], counts)
            yield Reader(modules[path], attribute, labels, read)
        for kernel in plan.kernels:
            module = modules[kernel.path]
            yield Reader(module, "padding", (kernel.label,), partial(_padding, kernel))
            yield Reader(module, "kernel_size", (kernel.label,), partial(_kernel_size, kernel))
        for skip in plan.skips:
            read = partial(self._in_place_of, skip)
            yield Reader(modules[skip.path], "forward", (skip.label,), read)

    def _of_tensors(self) -> Iterator[Reader]:
        lying, owners = _tensor_axes(self._plan), _owners(self._model)
        kernels = {f"{kernel.path}.weight": kernel for kernel in self._plan.kernels}
        for name in dict.fromkeys((*lying, *kernels)):
            kernel = kernels.get(name)
            dims = {dim: self._lying(name, dim, axes) for dim, axes in lying.get(name, {}).items()}
            labels = self._labels(number for lies in dims.values() for number in lies.axes)
            if kernel is not None:
                labels = (*labels, kernel.label)
            for module, own in owners[name]:
                yield Reader(module, own, labels, partial(self._cut, name, dims, kernel))

    def _labels(self, numbers: Iterable[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._plan.axes[number].label for number in numbers))

    def _lying(self, name: str, dim: int, axes: list[int]) -> _Lying:
        """Return what lies on a dimension; the same where axes lie on several in one way."""
        size = self._plan.shapes[name][dim]
        places = [self._plan.axes[number].places[name, dim] for number in axes]
        key = (size, *zip(axes, map(id, places), strict=True))
        if key not in self._others:
            self._others[key] = _Lying(self._plan, axes, Lengths(size, places))
        lying: _Lying = self._others[key]
        return lying

    def _cut(
        self, name: str, dims: Mapping[int, _Lying], kernel: Kernel | None, values: Values
    ) -> Cut | None:
        sizes, stays = self._plan.shapes[name], dict[int, Kept]()
        for dim, lies in dims.items():
            at = lies.kept(values)
            if at is not None:
                stays[dim] = at
        if kernel is not None:
            size, edge = kernel.cut(values)
            if edge:
                stays |= dict.fromkeys(range(2, len(sizes)), centre(edge, size))
        if not stays:
            return None
        parts = ((dim, at if isinstance(at, Stretches) else id(at)) for dim, at in stays.items())
        key = (sizes, *parts)
        cut = self._cuts.get(key)
        if cut is None:
            cut = self._cuts[key] = Cut(stays, sizes)
        return cut

    def _numbers(self, whole: Any, counts: list[tuple[Origin, Count]], values: Values) -> Any:
        axes = {number for _, count in counts for number in count.per_unit}
        kept = {number: self._plan.units(number, values) for number in axes}
        numbers = {origin.at: count.at(kept) for origin, count in counts}
        if None in numbers:
            return None if numbers[None] == whole else numbers[None]
        if isinstance(whole, tuple | list):
            entries = [numbers.get(at, entry) for at, entry in enumerate(whole)]
            return None if entries == list(whole) else type(whole)(entries)
        if all(vars(whole)[str(at)] == number for at, number in numbers.items()):
            return None
        key = (id(whole), *numbers.items())
        if key not in self._others:
            self._others[key] = changed(whole, {str(at): n for at, n in numbers.items()})
        return self._others[key]

    def _in_place_of(self, skip: Skip, values: Values) -> Skipped | None:
        if values[skip.label] != 0:
            return None
        key = (skip.zero, skip.nones)
        if key not in self._others:
            self._others[key] = Skipped(skip.zero, skip.nones)
        skipped: Skipped = self._others[key]
        return skipped


def _kernel_size(kernel: Kernel, values: Values) -> tuple[int, ...] | None:
    size, edge = kernel.cut(values)
    return (size,) * len(kernel.padding) if edge else None


def _padding(kernel: Kernel, values: Values) -> tuple[int, ...] | None:
    _, edge = kernel.cut(values)
    padding = zip(kernel.padding, kernel.dilation, strict=True)
    return tuple(p - edge * d for p, d in padding) if edge else None


def _owners(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Return, by a tensor's first name, the modules that hold it, and its name there."""
    first: dict[int, str] = {}
    owners: dict[str, list[tuple[nn.Module, str]]] = {}
    for path, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                whole = first.setdefault(id(tensor), f"{path}.{name}" if path else name)
                owners.setdefault(whole, []).append((module, name))
    return owners


def _tensor_axes(plan: Plan) -> dict[str, dict[int, list[int]]]:
    """Return, by tensor and dimension, the axes that lie there."""
    lying: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, axis in plan.axes.items():
        for name, dim in axis.places:
            lying[name][dim].append(number)
    return lying
