"""Costs per candidate, tabulated in one pass, so that an architecture's cost is a sum."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch, Value
from raynas.core.errors import InvalidSpace, nearest
from raynas.core.metrics import COSTS, KV_CACHE
from raynas.core.nest import Nest, moved
from raynas.core.objectives import Goal
from raynas.costs.elastic_costs import ElasticCosts, with_cache
from raynas.costs.expectation import (
    Expectation,
    Term,
    amounts_in,
    params_in,
    peaks_in,
    vectors_of,
)
from raynas.costs.meter import evaluating
from raynas.costs.network_cost import Cost, cost_of
from raynas.costs.params import params_tree
from raynas.costs.parts import Part, Row, tied_in, without_repetition
from raynas.costs.plain import PlainLayers, Varies, kept
from raynas.costs.regions import Regions
from raynas.costs.walk import measured_tree
from raynas.nn.conversion.elastic_model import ElasticModel
from raynas.nn.elastic import Elastic
from raynas.nn.mutable import frozen, inner_space, mutables, name_labels
from raynas.nn.single_input import check_takes
from raynas.nn.threads import torch_threads

REMEMBERED = 10_000
CHECKED = 4


class Metrics(Protocol):
    """What an architecture takes, by name."""

    def as_metrics(self) -> dict[str, float]:
        """Return columns of the trial table."""
        ...


class Additive(Protocol):
    """Costs that are sums over an architecture's parts."""

    def cost(self, arch: Mapping[str, Value]) -> Metrics:
        """Return the cost of an architecture known to be in the space."""
        ...

    def expected(self, probabilities: Mapping[str, Tensor], metric: str = ...) -> Tensor:
        """Return the expected cost under independent probabilities by label."""
        ...

    def terms(self, metric: str) -> list[Term] | None:
        """Return what a metric is the sum of, None if it is no sum."""
        ...

    @property
    def extremes(self) -> Mapping[Goal, Arch] | None:
        """The architectures that cost least and most by every metric, None if that is not known."""
        ...


class CostTable:
    """Costs of every architecture of a supernet, by look-up where they are sums over its parts.

    One forward pass runs all candidates of every choice, each on the input that its choice gets. A
    module whose values change shapes inside of it but not its output runs once per combination of
    these values. Parameters and multiply-accumulates are exact.

    Differs: ``activation_bytes`` may be an upper bound. Where a candidate may return its input, as
    an identity does, it is taken for a copy; in a cell, the sum of a node counts as alive while
    each of its edges runs, also the first; and an ``InputChoice`` is taken to join as many inputs
    as it may.

    Where the costs of parts depend on each other (values that change shapes all over the model, in
    more than 256 combinations), every architecture is measured on its own when it is asked for, and
    the last 10,000 are remembered: ``exact_per_arch`` says why. That is done on a copy of the model
    without memory if it gives the same for four architectures.

    Of a converted model (``raynas.elastic``) the table is one of products (``ElasticCosts``), and
    ``kv_cache_bytes`` is among the costs where attention is causal.

    Args:
        model: a supernet; its routes, mode and state are kept.
        example: a batch of one: inputs of shape (1, ...).

    Attributes:
        metrics: names of what it tells.
        exact_per_arch: why no table can be made; None if there is one.
        extremes: of a converted model's table, the architectures that cost least and most by every
            metric; else None.

    Raises:
        InvalidSpace: candidates of one choice give different shapes.
        ValueError: the model takes several inputs, and the example is one tensor.
    """

    def __init__(self, model: nn.Module, example: Nest) -> None:
        check_takes(model, example)
        name_labels(model)
        caches = isinstance(model, ElasticModel) and bool(model.plan.cache)
        self.metrics: tuple[str, ...] = (*COSTS, KV_CACHE) if caches else COSTS
        self.exact_per_arch: str | None = None
        self._root = Part()
        self._rows: Row | None = None
        self._elastic: ElasticCosts | None = None
        self.extremes: Mapping[Goal, Arch] | None = None
        try:
            with torch_threads(1), evaluating(model):  # one example: threads would wait
                if isinstance(model, ElasticModel):
                    self._elastic = ElasticCosts(model, example)
                    self.extremes = self._elastic.extremes
                else:
                    self._tabulate(model, example)
        except Varies as reason:
            self.exact_per_arch = str(reason)
        except InvalidSpace:
            raise
        except Exception as error:
            if not (_has_values(model) or isinstance(model, ElasticModel)):
                raise  # a candidate that does not fit
            self.exact_per_arch = f"its parts do not run apart from each other: {error}"
        if self.exact_per_arch is not None:
            self._measure = _Measure(model, example)
        self._expectation: Expectation | None = None

    def _tabulate(self, model: nn.Module, example: Nest) -> None:
        plain = PlainLayers(model)
        self._root.add(params_tree(model, plain))
        regions = Regions(model, plain).find(example)
        self._root.add(measured_tree(model, example, plain, regions))
        without_repetition(self._root)
        self._tied = tied_in(self._root)
        self._rows = Row(self._root, self._tied)

    def cost(self, arch: Mapping[str, Value]) -> Cost:
        """Return the cost of an architecture known to be in the space."""
        if self._elastic is not None:
            return self._elastic.cost(arch)
        if self._rows is None:
            return self._measure.cost(arch)
        sum_ = [0, 0, 0]
        tied: dict[Hashable, int] = {}
        self._rows.add_to(sum_, tied, arch)
        return Cost(sum_[0] + sum(tied.values()), sum_[1], sum_[2])

    def expected(self, probabilities: Mapping[str, Tensor], metric: str = "macs") -> Tensor:
        """Return the expectation of a cost under independent probabilities; gradients go through.

        Args:
            probabilities: by label, shape (options,), in the order of the decision's options. An
                edge's are over its candidates, the one that gives zeros among them or left out, and
                need not sum to 1. A cell's ``from`` decisions, shape (sources,), are the
                probabilities that a source is read; without them every edge runs, as in a mixture.
                For a set among values, shape (number of sets,), in the order of its ``values()``.
            metric: ``macs`` or ``params``; parameters that several candidates share count in each.
                Of a converted model also ``kv_cache_bytes``.

        Raises:
            ValueError: there is no table (``exact_per_arch`` says why), no such metric, or a vector
                is missing or of another length.
        """
        if self._elastic is not None:
            return self._elastic.expectation(probabilities, metric)
        if self._rows is None:
            raise ValueError(f"these costs have no expectation by table: {self.exact_per_arch}")
        if self._expectation is None:
            terms = {"macs": amounts_in(self._root), "params": params_in(self._root)}
            self._expectation = Expectation(vectors_of(self._root), terms)
        return self._expectation(probabilities, metric)

    def terms(self, metric: str) -> list[Term] | None:
        """Return what a metric is the sum (of ``activation_bytes``: the largest) of.

        None if there is no table, for parameters if several parts share some, and for
        ``activation_bytes`` of a converted model.
        """
        if self._elastic is not None:
            return self._elastic.terms(metric)
        terms_in = {"macs": amounts_in, "params": params_in, "activation_bytes": peaks_in}
        if metric not in terms_in:
            raise ValueError(f"no metric {metric!r}; {nearest(metric, terms_in)}")
        if self._rows is None or (metric == "params" and self._tied):
            return None
        return terms_in[metric](self._root)


class _Measure:
    """Measures architectures one by one, on a copy of the model without memory if that will do."""

    def __init__(self, model: nn.Module, example: Nest) -> None:
        self._model, self._example, self._memo = model, example, kept(model)
        self._remembered: OrderedDict[str, Cost] = OrderedDict()
        rng, space = np.random.default_rng(0), inner_space(model)
        costs = {arch: self.cost(arch) for arch in [space.sample(rng) for _ in range(CHECKED)]}
        real = self._model, self._example, self._memo
        try:
            to_meta: dict[int, Any] = {key: _weightless(t) for key, t in self._memo.items()}
            self._model = copy.deepcopy(model, to_meta)
            self._example, self._memo = moved(example, "meta"), kept(self._model)
            self._remembered.clear()
            same = all(self.cost(arch) == cost for arch, cost in costs.items())
        except Exception:  # whatever it is that meta tensors cannot do, real ones can
            same = False
        if not same:
            self._model, self._example, self._memo = real
            self._remembered.clear()

    def cost(self, arch: Mapping[str, Value]) -> Cost:
        key = (arch if isinstance(arch, Arch) else Arch(arch)).key
        if key not in self._remembered:
            with torch.random.fork_rng(devices=[]):  # some layers draw weights that are replaced
                net = frozen(self._model, arch, dict(self._memo))
            self._remembered[key] = with_cache(cost_of(net, self._example), self._model, arch)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return self._remembered[key]


def _weightless(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def _has_values(model: nn.Module) -> bool:
    return any(isinstance(m, Elastic) and m.leaves() for m in mutables(model))
