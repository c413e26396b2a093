"""Where in a model values may be enumerated: the smallest modules whose shapes do not show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import nn

from raynas.core.arch import Value
from raynas.core.nest import Nest, arguments
from raynas.costs.plain import PlainLayers, labels_of
from raynas.costs.walk import NoGauge, Walk, shapes_of
from raynas.nn.elastic import Elastic


class Call(NamedTuple):
    """One call of a module: its arguments, and the shapes of what goes in and comes out."""

    args: Any
    kwargs: Any
    shapes: Any


Calls = dict[nn.Module, list[Call]]


class Regions:
    """Finds where each label is to be enumerated, by running parts of the model under other values.

    Costs of a module whose input and output keep their shapes under all values of a label depend on
    nothing outside of it, as far as that label goes. A pass under ``labels`` checks that they do.

    Args:
        model: a supernet, its labels given, in evaluation mode.
        plain: its elastic layers.

    Attributes:
        labels: to enumerate, by module; inner modules are run for each combination of outer
            ones.
    """

    def __init__(self, model: nn.Module, plain: PlainLayers) -> None:
        self.model, self.plain = model, plain
        self.labels: dict[nn.Module, tuple[str, ...]] = {}
        self._layers = [layer for layer in plain.layers if layer.leaves()]
        self._parents = _parents(model, self._layers)

    def find(self, example: Nest) -> dict[nn.Module, tuple[str, ...]]:
        """Return the labels to enumerate by module.

        Raises:
            Varies: the model's costs cannot be taken apart.
        """
        if self._layers:
            with Walk(self.model, self.plain, NoGauge()).attached():
                self._split(self.model, Call(*arguments(example), None), list(self.plain.domains))
        return self.labels

    def _split(self, module: nn.Module, call: Call, labels: list[str]) -> None:
        """Assign the labels to the module, or to modules inside of it."""
        if isinstance(module, Elastic):
            self._assign(module, [label for label in labels if label in labels_of(module)])
            return
        base = self._calls(module, call, {})
        together = [self._calls(module, call, now) for now in self._jointly(labels)]
        tops = self._smallest(module, base, together, labels)
        if module in tops:
            own = self._showing(module, call, base, labels) or labels
            self._assign(module, own)
            labels = [label for label in labels if label not in own]
            if not labels:
                return
            together = [self._calls(module, call, now) for now in self._jointly(labels)]
            tops = self._smallest(module, base, together, labels)
            if module in tops:
                self._assign(module, labels)
                return
        for top in _outermost(tops):
            inner = {label for layer in self._inside(top) for label in labels_of(layer)}
            self._split(top, base[top][0], [label for label in labels if label in inner])

    def _assign(self, module: nn.Module, labels: Iterable[str]) -> None:
        before = self.labels.get(module, ())
        self.labels[module] = (*before, *(label for label in labels if label not in before))

    def _jointly(self, labels: list[str]) -> Iterator[dict[str, Value]]:
        domains = {label: self.plain.domains[label] for label in labels}
        for at in range(1, max(map(len, domains.values()))):
            yield {label: values[at % len(values)] for label, values in domains.items()}

    def _showing(self, module: nn.Module, call: Call, base: Calls, labels: list[str]) -> list[str]:
        """Return the labels whose values no module inside hides.

        Mostly few of many do: where several together are hidden none of them shows, so that halves
        are tried, and not one label after another.
        """
        others = [self._calls(module, call, now) for now in self._jointly(labels)]
        if module not in self._smallest(module, base, others, labels):
            return []
        if len(labels) == 1:
            return labels
        half = len(labels) // 2
        parts = (labels[:half], labels[half:])
        return [label for part in parts for label in self._showing(module, call, base, part)]

    def _smallest(
        self, module: nn.Module, base: Calls, others: list[Calls], labels: list[str]
    ) -> set[nn.Module]:
        """Return the smallest modules around the labels' layers whose shapes stay as they are."""
        same = {
            inner
            for inner, calls in base.items()
            if all(_shapes(other.get(inner, [])) == _shapes(calls) for other in others)
        }
        inside, smallest = set(module.modules()), set[nn.Module]()
        climbing: list[nn.Module] = [
            layer
            for layer in self._inside(module)
            if layer in base and not set(labels).isdisjoint(labels_of(layer))
        ]
        while climbing:
            inner = climbing.pop()
            if inner is module or inner in same:
                smallest.add(inner)
            else:
                climbing += self._parents[inner] & inside
        return smallest

    def _inside(self, module: nn.Module) -> list[Elastic]:
        inside = set(module.modules())
        return [layer for layer in self._layers if layer in inside]

    def _calls(self, module: nn.Module, call: Call, now: Mapping[str, Value]) -> Calls:
        """Run a module under other values and return the calls of the modules inside."""
        calls: Calls = {}

        def note(inner: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            shapes = shapes_of((args, kwargs)), shapes_of(out)
            calls.setdefault(inner, []).append(Call(args, kwargs, shapes))

        watched = [inner for inner in module.modules() if inner in self._parents]
        with _hooked(watched, note), self.plain.taking(now):
            module(*call.args, **call.kwargs)
        return calls


def _shapes(calls: list[Call]) -> list[Any]:
    return [call.shapes for call in calls]


def _outermost(modules: set[nn.Module]) -> list[nn.Module]:
    inside = {inner for module in modules for inner in module.modules() if inner is not module}
    return [module for module in modules if module not in inside]


def _parents(model: nn.Module, layers: list[Elastic]) -> dict[nn.Module, set[nn.Module]]:
    """Return, for the layers and all modules around them, the modules that hold them."""
    every: dict[nn.Module, set[nn.Module]] = {}
    for module in model.modules():
        for child in module.children():
            every.setdefault(child, set()).add(module)
    parents: dict[nn.Module, set[nn.Module]] = {}
    climbing: list[nn.Module] = list(layers)
    while climbing:
        module = climbing.pop()
        if module not in parents:
            parents[module] = every.get(module, set())
            climbing += parents[module]
    return parents


@contextmanager
def _hooked(modules: Iterable[nn.Module], note: Any) -> Iterator[None]:
    with ExitStack() as undo:
        for module in modules:
            undo.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        yield
