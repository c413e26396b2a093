"""One forward pass that runs every candidate of every choice, each on the input its choice gets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import product
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, call
from raynas.costs.meter import Meter, storage_key, tensors_in
from raynas.costs.parts import Part, Rule, Switch
from raynas.costs.plain import PlainLayers, Varies, calling, labels_of
from raynas.costs.rules import check_known, choice_rule, depth_rule, origins, values_rule
from raynas.nn.choice import LayerChoice
from raynas.nn.elastic import Elastic
from raynas.nn.inputs import InputChoice
from raynas.nn.mutable import Mutable, each_route
from raynas.nn.reduction import reduce
from raynas.nn.repeat import Repeat

Run = Callable[[], Any]
Differ = Callable[..., Exception]
Regions = Mapping[nn.Module, tuple[str, ...]]


class Gauge(Protocol):
    """Measures parts of the pass."""

    def part(self, run: Run, part: Part, walk: Walk) -> Any:
        """Return what ``run`` returns, and write into ``part`` what it took."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Leave out what happens within."""
        ...


class NoGauge:
    """Runs without measuring."""

    def part(self, run: Run, part: Part, walk: Walk) -> Any:
        """Return what ``run`` returns."""
        return run()

    def aside(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


class MeterGauge:
    """Counts multiply-accumulates and bytes alive."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def part(self, run: Run, part: Part, walk: Walk) -> Any:
        """Count what ``run`` does."""
        with self.meter.part() as tally:
            out = run()
        part.amount, part.peak_bytes = tally.macs, tally.peak_bytes
        return out

    def aside(self) -> AbstractContextManager[None]:
        """Count nothing."""
        return self.meter.paused()


class Walk:
    """The pass, and the tree of parts that it finds.

    Args:
        model: a supernet, its labels given.
        plain: its elastic layers.
        gauge: measures every part.
        regions: modules to run once per combination of the values of these labels, elastic layers
            as plain ones; None runs elastic layers with the values that ``plain`` has.
    """

    def __init__(
        self, model: nn.Module, plain: PlainLayers, gauge: Gauge, regions: Regions | None = None
    ) -> None:
        self.model, self.plain, self.gauge, self.regions = model, plain, gauge, regions
        self.root = Part()
        self.quiet = False  # run defaults, measure nothing: a part is run again to be timed
        self._stack = [self.root]
        self._origins = origins(model)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the model's forward passes be such passes.

        Raises:
            Varies: the model has a mutable of a kind that is not known here.
        """
        forwards: dict[nn.Module, Any] = {
            layer: partial(self._elastic, layer, layer.forward) for layer in self.plain.layers
        }
        for module, labels in (self.regions or {}).items():
            forwards[module] = partial(
                self._region, module, labels, forwards.get(module, module.forward)
            )
        restore = each_route(self.model, self._route)
        try:
            with calling(forwards):
                yield
        finally:
            restore()

    def _route(self, mutable: Mutable) -> Any:
        if isinstance(mutable, LayerChoice):
            return partial(self._choice, mutable)
        if isinstance(mutable, InputChoice):
            return partial(self._inputs, mutable)
        if isinstance(mutable, Repeat):
            fixed = isinstance(mutable.depth, int)
            return mutable.depth if fixed else partial(self._repeat, mutable)
        check_known(mutable)
        return mutable.route

    def _choice(
        self, choice: LayerChoice, layers: Sequence[nn.Module], *args: Any, **kwargs: Any
    ) -> Any:
        def differ(at: int, expected: Any, came: Any) -> Exception:
            return InvalidSpace(
                f"choice {choice.label!r}: candidate {choice.names[at]!r} gives shape "
                f"{_shown(came)}, but {choice.names[0]!r} gives {_shown(expected)}"
            )

        runs = [partial(layer, *args, **kwargs) for layer in layers]
        return self._each(
            choice_rule(choice, self._origins), runs, (args, kwargs), differ, alike=_alike
        )

    def _region(
        self, module: nn.Module, labels: tuple[str, ...], inner: Any, *args: Any, **kwargs: Any
    ) -> Any:
        def run(values: tuple[Any, ...]) -> Any:
            with self.plain.taking(dict(zip(labels, values, strict=True))):
                return inner(*args, **kwargs)

        def differ(*_: Any) -> Exception:
            return Varies(f"{labels} change the output of a {type(module).__name__}")

        rule = values_rule(self.plain, labels)
        runs = [partial(run, values) for values in product(*rule.domains)]
        return self._each(rule, runs, (args, kwargs), None if module is self.model else differ)

    def _each(
        self,
        rule: Rule,
        runs: Sequence[Run],
        given: Any,
        differ: Differ | None,
        *,
        alike: Callable[[Any, Any], bool] = operator.eq,
    ) -> Any:
        """Run and measure parts of which an architecture runs one; return the last's output."""
        if self.quiet:
            return runs[0]()
        parts = [Part() for _ in runs]
        self._stack[-1].switches.append(Switch(rule, parts))
        expected: Any = None
        out = None
        for at, (run, part) in enumerate(zip(runs, parts, strict=True)):
            out = None  # freed before the next one runs, or it would count as alive there
            out = self._measured(run, part)
            shapes = shapes_of(out)
            if not at:
                expected = shapes
            elif differ is not None and not alike(shapes, expected):
                raise differ(at, expected, shapes)
        return _apart(out, given)

    def _measured(self, run: Run, part: Part) -> Any:
        self._stack.append(part)
        out = self.gauge.part(run, part, self)
        self._stack.pop()
        return out

    def _repeat(
        self, repeat: Repeat, blocks: Sequence[nn.Module], x: Any, *args: Any, **kwargs: Any
    ) -> Any:
        rule = depth_rule(repeat)
        default: tuple[int, ...] = next(iter(rule.runs.values()))
        if self.quiet:
            for block in blocks[: len(default)]:
                x = block(x, *args, **kwargs)
            return x
        parts = [Part() for _ in blocks]
        self._stack[-1].switches.append(Switch(rule, parts, default))
        shapes = {0: shapes_of(x)}
        for at, (block, part) in enumerate(zip(blocks, parts, strict=True)):
            x = self._measured(partial(block, x, *args, **kwargs), part)
            shapes[at + 1] = shapes_of(x)
        depths = {len(parts) for parts in rule.runs.values()}
        if any(shapes[depth] != shapes[len(blocks)] for depth in depths):
            raise Varies(f"the depth {rule.labels[0]!r} changes the output of its blocks")
        return x

    def _inputs(self, choice: InputChoice, _: Any, *tensors: Any) -> Any:
        some = choice.n_chosen is None
        if some and choice.reduction in ("concat", "none"):
            raise Varies(f"the inputs that {choice.label!r} picks are joined to various shapes")
        if any(shapes_of(tensor) != shapes_of(tensors[0]) for tensor in tensors):
            raise Varies(f"{choice.label!r} picks among inputs of various shapes")
        count = choice.n_chosen or len(tensors)
        return _apart(reduce(tensors[:count], choice.reduction), tensors)

    def _elastic(self, layer: Elastic, forward: Any, *args: Any, **kwargs: Any) -> Any:
        layer.route = layer.at(self.plain.now)
        if self.regions is None:
            return forward(*args, **kwargs)
        if not self.plain.bound.issuperset(labels_of(layer)):
            raise Varies(f"{labels_of(layer)} change shapes in too many places")
        with self.gauge.aside():
            plain = self.plain.of(layer)
        return plain(*args, **kwargs)


def measured_tree(model: nn.Module, example: Nest, plain: PlainLayers, regions: Regions) -> Part:
    """Return the tree of multiply-accumulates and bytes of one pass.

    Raises:
        Varies: no tree can hold them.
        InvalidSpace: candidates of one choice give different shapes.
    """
    with Meter(example) as meter:
        walk = Walk(model, plain, MeterGauge(meter), regions)
        with walk.attached():
            call(model, example)
    walk.root.amount, walk.root.peak_bytes = meter.total.macs, meter.total.peak_bytes
    return walk.root


def shapes_of(out: Any) -> list[tuple[int, ...]]:
    """Return the shapes of all tensors in an output."""
    return [tuple(tensor.shape) for tensor in tensors_in(out)]


def _alike(first: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> bool:
    """Return whether outputs of these shapes may stand for each other.

    Of several tensors, as a recurrent layer's output and states are, the first has to agree: what
    reads the others is the model's own affair, unless an algorithm mixes them.
    """
    if min(len(first), len(other)) > 1:
        return first[0] == other[0]
    return first == other


def _shown(shapes: list[tuple[int, ...]]) -> str:
    return str(shapes[0] if len(shapes) == 1 else shapes)


def _apart(out: Any, given: Any) -> Any:
    """Return a copy of an output that shares memory with the input."""
    held = {storage_key(tensor) for tensor in tensors_in(given)}
    aliased = any(storage_key(tensor) in held for tensor in tensors_in(out))
    return tree_map_only(Tensor, torch.clone, out) if aliased else out
