"""Costs of an existing model's smaller networks: sums of products of what axes keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from math import prod

import numpy as np
import torch
from torch import nn

from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Subspace
from raynas.core.errors import nearest
from raynas.core.metrics import COSTS, KV_CACHE
from raynas.core.nest import Nest
from raynas.core.objectives import Goal
from raynas.costs.expectation import Expectation, Term, Vector
from raynas.costs.meter import evaluating
from raynas.costs.network_cost import Cost, cost_of
from raynas.costs.parts import Factor, Path
from raynas.costs.plain import Varies, kept
from raynas.costs.products import Form, Largest, Product, Sums, Values, Variable, terms_of
from raynas.costs.traced import CostTrace, Counted, Held, traced
from raynas.costs.traced import Product as TracedProduct
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.conversion.plan import Kernel
from raynas.nn.mutable import frozen
from raynas.nn.threads import torch_threads

CHECKED = 2  # architectures that are measured, to be sure
MAX_OWNERS = 6  # modules that may be left out and share one tensor
LEFT_OUT = -(10**15)  # bytes: more than any pass takes


class ElasticCosts:
    """Costs of every architecture of a converted model, by look-up.

    One pass of the whole model on the example tells which channels each product and each tensor
    that is alive has; an architecture's costs follow from how many of them it keeps.
    ``activation_bytes`` may be an upper bound: what a layer that is left out returns is taken for
    a copy, and memory of which the channels are not known counts as in the whole model.

    Args:
        model: a converted model; its route, mode and state are kept.
        example: a batch of one.

    Raises:
        Varies: what a pass multiplies cannot be told so, or what was measured costs something else.
    """

    def __init__(self, model: ElasticModel, example: Nest) -> None:
        self.space = ArchSpace(model.choices())
        self._made = _Products(model)
        with torch_threads(1):
            whole = _shared(model, model.plan.largest)
            with evaluating(whole):
                trace = traced(whole, example)
        self._units = _Units(model, trace)
        made, variables = self._made, self._made.variables
        macs = [self._of_product(told) for told in trace.products]
        self._values = Values(variables)
        products = {"params": list(made.params()), "macs": macs, KV_CACHE: list(made.cache())}
        self._sums = Sums(products, len(variables))
        self._caches = bool(products[KV_CACHE])
        self._peak = Largest(self._moments(trace, example), variables)
        self._check(model, example, trace.log.total.macs)

    def cost(self, arch: Mapping[str, Value]) -> Cost:
        """Return the cost of an architecture known to be in the space."""
        values = self._values.at(arch)
        params, macs, cache = self._sums.at(values)
        return Cost(params, macs, self._peak.at(values), cache if self._caches else None)

    def terms(self, metric: str) -> list[Term] | None:
        """Return what a metric is the sum of; None for ``activation_bytes``, which is none.

        Raises:
            ValueError: no such metric.
        """
        if metric not in (*COSTS, *self._sums.products):
            raise ValueError(f"no metric {metric!r}; {nearest(metric, self._sums.products)}")
        products = self._sums.products.get(metric)
        if products is None:
            return None
        above = dict(_above(self.space))
        return terms_of(products, self._made.variables, self.space.decisions, above)

    @property
    def extremes(self) -> dict[Goal, Arch]:
        """The architectures that cost least and most by every metric: all costs are monotone."""
        return {
            "min": self.space.decided(lambda decision: decision.options[-1]),
            "max": self.space.decided(lambda decision: decision.options[0]),
        }

    @cached_property
    def expectation(self) -> Expectation:
        """Expected costs under independent probabilities."""
        terms = {metric: self.terms(metric) or [] for metric in self._sums.products}
        decisions = self.space.decisions
        vectors = {label: Vector(len(decisions[label].options)) for label in decisions}
        return Expectation(vectors, terms)

    def _of_product(self, told: TracedProduct) -> Product:
        forms = [self._units.form(told.elements), self._units.form(told.met)]
        factor, kernel = told.taps, self._made.kernel_of((told.weight or "").rpartition(".")[0])
        if kernel is not None:
            area, form = kernel
            factor //= area
            forms.append(form)
        return Product(factor, (*forms, *self._made.present(told.within)))

    def _moments(self, trace: CostTrace, example: Nest) -> Iterator[Form]:
        """Yield the bytes that are alive, moment by moment."""
        log = trace.log
        sizes = [self._size(held) for held in log.held]
        inputs = log.inputs_bytes
        yield Form(inputs)
        for moment in log.moments:
            weights: dict[int, int] = defaultdict(int)
            constant = inputs
            for at in moment.held:
                constant += sizes[at].constant
                for variable, weight in sizes[at].weights:
                    weights[variable] += weight
            for form in self._made.present(moment.scopes):
                ((variable, _),) = form.weights
                constant += LEFT_OUT
                weights[variable] -= LEFT_OUT
            yield Form(constant, tuple(weights.items()))

    def _size(self, held: Held) -> Form:
        if held.counted is None:
            return Form(held.nbytes)
        try:
            form = self._units.form(held.counted)
        except Varies:
            return Form(held.nbytes)
        weights = tuple((at, weight * held.itemsize) for at, weight in form.weights)
        return Form(form.constant * held.itemsize, weights)

    def _check(self, model: ElasticModel, example: Nest, macs: int) -> None:
        """Compare the whole with what was counted in its pass, and others with what is measured."""
        largest = self.cost(model.plan.largest)
        if largest.macs != macs:
            raise Varies(f"of {macs} multiply-accumulates, {largest.macs} have channels to count")
        rng = np.random.default_rng(0)
        archs = [self.extremes["min"]]
        archs += [self.space.sample(rng) for _ in range(CHECKED - 1)]
        for arch in archs:
            ours, measured = self.cost(arch), cost_of(_shared(model, arch), example)
            if (ours.params, ours.macs) != (measured.params, measured.macs):
                raise Varies(
                    f"a network that was measured has {measured.params} parameters and "
                    f"{measured.macs} multiply-accumulates, {ours.params} and {ours.macs} by count"
                )


def with_cache(cost: Cost, model: nn.Module, arch: Mapping[str, Value]) -> Cost:
    """Return a measured cost with what the plan of a converted model tells of its caches."""
    if not (isinstance(model, ElasticModel) and model.plan.cache):
        return cost
    made = _Products(model)
    sums = Sums({KV_CACHE: list(made.cache())}, len(made.variables))
    (size,) = sums.at(Values(made.variables).at(arch))
    return replace(cost, kv_cache_bytes=size)


class _Products:
    """What the plan alone tells: variables, parameters and caches."""

    def __init__(self, model: ElasticModel) -> None:
        plan = model.plan
        self._model, self._plan = model, plan
        self.variables: list[Variable] = []
        self.axes = {
            number: self._add(axis.label, {option: axis.kept(option) for option in axis.options})
            for number, axis in plan.axes.items()
        }
        self._skips = {skip.path: self._add(skip.label, {1: 1, 0: 0}) for skip in plan.skips}
        self._kernels = {
            kernel.path: (
                kernel.size ** len(kernel.padding),
                Form(0, ((self._add(kernel.label, _areas(kernel)), 1),)),
            )
            for kernel in plan.kernels
        }

    def _add(self, label: str, values: Mapping[Value, int]) -> int:
        self.variables.append(Variable(label, values, max(values.values())))
        return len(self.variables) - 1

    def kernel_of(self, path: str) -> tuple[int, Form] | None:
        """Return the whole kernel's area, and what it is, of an elastic convolution."""
        return self._kernels.get(path)

    def present(self, scopes: Iterable[str]) -> tuple[Form, ...]:
        """Return what is 0 where one of these modules is left out."""
        numbers = dict.fromkeys(self._skips[path] for path in scopes if path in self._skips)
        return tuple(Form(0, ((number, 1),)) for number in numbers)

    def params(self) -> Iterator[Product]:
        """Yield the numbers of parameters of each tensor."""
        owners = _owners(self._model)
        for name, tensor in self._model.named_parameters():
            lengths = [self._length(name, *pair) for pair in enumerate(self._plan.shapes[name])]
            factor = prod(form.constant for form in lengths if not form.weights)
            forms = [form for form in lengths if form.weights]
            kernel = self._kernels.get(name.rpartition(".")[0])
            if kernel is not None and name.endswith(".weight"):
                factor, forms = factor // kernel[0], [*forms, kernel[1]]
            for sign, present in self._presence(owners[id(tensor)]):
                yield Product(sign * factor, (*forms, *present))

    def _length(self, name: str, dim: int, size: int) -> Form:
        weights = []
        for number, axis in self._plan.axes.items():
            places = axis.places.get((name, dim))
            if places is not None:
                size -= places.numel()
                weights.append((self.axes[number], places.shape[1]))
        return Form(size, tuple(weights))

    def _presence(self, owners: list[tuple[str, ...]]) -> list[tuple[int, tuple[Form, ...]]]:
        """Return signed products that add up to 1 while one of a tensor's owners is there."""
        needs = dict.fromkeys(frozenset(p for p in one if p in self._skips) for one in owners)
        if frozenset() in needs:
            return [(1, ())]
        if len(needs) > MAX_OWNERS:
            raise Varies(f"{len(needs)} modules that may be left out share one tensor")
        return [
            ((-1) ** (count + 1), self.present(sorted(frozenset[str]().union(*some))))
            for count in range(1, len(needs) + 1)
            for some in combinations(needs, count)
        ]

    def cache(self) -> Iterator[Product]:
        """Yield the bytes that one token of one example leaves in the caches of attention."""
        for term in self._plan.cache:
            module = self._model.get_submodule(term.scope)
            sizes = [p.element_size() for p in module.parameters() if p.is_floating_point()]
            sizes += [p.element_size() for p in self._model.parameters() if p.is_floating_point()]
            weights = tuple((self.axes[a], width) for a, width in term.count.per_unit.items())
            form = Form(term.count.constant, weights)
            yield Product(sizes[0], (form, *self.present(_ancestors(term.scope))))


class _Units:
    """Which variable each label of a trace counts in."""

    def __init__(self, model: ElasticModel, trace: CostTrace) -> None:
        self._class_of = trace.labels.classes()
        self._axis = np.full(len(self._class_of), -1)
        self._unit = np.zeros(len(self._class_of), dtype=np.intp)
        self._counts: list[int] = []
        for axis in model.plan.axes.values():
            number = len(self._counts)
            self._counts.append(axis.units)
            for place, positions in axis.places.items():
                labels = trace.nodes.get(place)
                if labels is None:
                    continue
                classes = self._class_of[labels[positions].numpy()]
                units = np.broadcast_to(np.arange(axis.units)[:, None], classes.shape)
                taken = self._axis[classes] >= 0
                same = (self._axis[classes] == number) & (self._unit[classes] == units)
                if bool((taken & ~same).any()):
                    raise Varies(f"channels of {axis.label!r} meet others on this example")
                self._axis[classes], self._unit[classes] = number, units

    def form(self, counted: Counted) -> Form:
        """Return how many of these labels are kept.

        Raises:
            Varies: units of one axis do not stand there equally often.
        """
        distinct, times = (tensor.numpy() for tensor in counted)
        classes = self._class_of[distinct]
        axes = np.where(distinct == 0, -1, self._axis[classes])
        constant, weights = int(times[axes < 0].sum()), []
        for number in np.unique(axes[axes >= 0]).tolist():
            here = axes == number
            often = np.bincount(
                self._unit[classes[here]], times[here], minlength=self._counts[number]
            )
            if often.min() != often.max():
                raise Varies("channels of one axis do not stand somewhere equally often")
            weights.append((number, int(often[0])))
        return Form(constant, tuple(weights))


def _shared(model: ElasticModel, arch: Mapping[str, Value]) -> nn.Module:
    """Return an architecture as a plain module that shares whatever tensors it has whole."""
    with torch.random.fork_rng(devices=[]):
        return frozen(model, arch, dict(kept(model)))


def _areas(kernel: Kernel) -> dict[Value, int]:
    return {size: size ** len(kernel.padding) for size in kernel.options}


def _ancestors(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _owners(model: nn.Module) -> dict[int, list[tuple[str, ...]]]:
    """Return, by a parameter's identity, the first paths of the modules around each owner."""
    first: dict[int, str] = {}
    owners: dict[int, list[tuple[str, ...]]] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, module in modules.items():
        first.setdefault(id(module), path)
    for path, module in modules.items():
        around = tuple(first[id(modules[above])] for above in _ancestors(path))
        for tensor in module._parameters.values():
            if tensor is not None:
                owners.setdefault(id(tensor), []).append(around)
    return owners


def _above(space: Subspace, path: Path = ()) -> Iterator[tuple[str, Path]]:
    """Yield every label with what has to be picked for it to be reached."""
    for decision in space.choices:
        yield decision.label, path
        for at, option in enumerate(decision.options):
            if option in decision.opens:
                inner = decision.opens[option]
                yield from _above(inner, (*path, Factor(decision.label, at, option)))
