"""Activations shared by architectures of a chain that begin alike (see ``raynas.supernet.stages``).

What the first stages compute is the same for all architectures that agree in these stages'
decisions, BatchNorm statistics included: these come from calibration rows inside the same pass.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from raynas.core.arch import Value
from raynas.core.errors import InvalidSpace
from raynas.core.nest import Nest, call, mapped, moved, taken
from raynas.core.nest import rows as rows_of
from raynas.nn.elastic_norm import ElasticBatchNorm
from raynas.nn.mutable import activate_unchecked, inner_space
from raynas.supernet.attributes import Followed
from raynas.supernet.calibration import CalibratedBatchNorm, Calibration, NeedsOwnPasses
from raynas.supernet.stages import Span, offers_stages, spans_of

Key = tuple[str, ...]
Activations = Sequence[Tensor]
NORMS = (CalibratedBatchNorm, ElasticBatchNorm)
TRIED = 2  # images on which the stages are compared with the forward pass
TOLERANCE = 0.01  # of the largest output; a GPU may take another algorithm each time


class PrefixCache:
    """Keeps the activations that were used last, up to so many bytes.

    Attributes:
        most_bytes: that it may hold.
        held_bytes: that it holds; what two entries share counts twice.
        hits: spans that were not run because their results were here.
        misses: spans that were run.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.held_bytes = most_bytes, 0
        self.hits = self.misses = 0
        self._kept: OrderedDict[Key, tuple[Activations, list[int]]] = OrderedDict()
        self._overwritten: set[int] = set()  # lengths of prefixes whose results do not last

    def __len__(self) -> int:
        return len(self._kept)

    def longest(self, prefixes: Sequence[Key]) -> tuple[int, Activations | None]:
        """Return how many spans the longest known prefix of an architecture has, and its results.

        The shorter ones count as used with it: what changes next may be any of the decisions.

        Args:
            prefixes: of one architecture, each one span longer than the one before.
        """
        for done in range(len(prefixes), 0, -1):
            tensors = self._get(prefixes[done - 1])
            if tensors is not None:
                for key in prefixes[:done]:
                    if key in self._kept:
                        self._kept.move_to_end(key)
                return done, tensors
        return 0, None

    def _get(self, key: Key) -> Activations | None:
        """Return what was put, None if it is gone or was written into since."""
        if key not in self._kept:
            return None
        tensors, versions = self._kept[key]
        if [t._version for t in tensors] != versions:
            self._overwritten.add(len(key))
            self._drop(key)
            return None
        return tensors

    def put(self, key: Key, tensors: Activations) -> None:
        """Keep results of the spans that ``key`` stands for, if they can be kept at all."""
        if len(key) in self._overwritten or not all(map(_lasts, tensors)):
            return
        size = _bytes(tensors)
        if key in self._kept or size > self.most_bytes:
            return
        while self.held_bytes + size > self.most_bytes:
            self._drop(next(iter(self._kept)))
        self._kept[key] = tensors, [t._version for t in tensors]
        self.held_bytes += size

    def clear(self) -> None:
        """Forget all activations."""
        self._kept.clear()
        self.held_bytes = 0

    def _drop(self, key: Key) -> None:
        tensors, _ = self._kept.pop(key)
        self.held_bytes -= _bytes(tensors)


def _lasts(x: object) -> bool:
    """Return whether it would be noticed if someone wrote into ``x``."""
    return isinstance(x, Tensor) and not x.is_inference()


def _bytes(tensors: Activations) -> int:
    storages = (t.untyped_storage() for t in tensors)
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


class _Watch:
    """Tells whether weights have changed.

    What PyTorch writes in place is always seen. Of what leaves no trace (a fused optimizer, a write
    by ``.data``) it is seen whether any parameter's first number differs.

    Args:
        model: whose weights are watched, and all buffers but the statistics of BatchNorms.
    """

    def __init__(self, model: nn.Module) -> None:
        others = [m for m in model.modules() if not isinstance(m, _BatchNorm)]
        buffers = [b for module in others for b in module.buffers(recurse=False)]
        self._tensors = [*model.parameters(), *buffers]
        parameters = [p.detach() for p in model.parameters() if p.numel()]
        parameters = [p for p in parameters if p.device == parameters[0].device]
        self._first = [p[(0,) * p.dim()].view(1) for p in parameters]
        self._version, self._numbers = self._look()

    def changed(self) -> bool:
        """Return whether weights differ from those of the last call."""
        version, numbers = self._look()
        same = version == self._version and torch.equal(numbers, self._numbers)
        self._version, self._numbers = version, numbers
        return not same

    def _look(self) -> tuple[int, Tensor]:
        numbers = torch.cat(self._first) if self._first else torch.empty(0)
        return sum(t._version for t in self._tensors), numbers


class PrefixRunner:
    """Runs architectures of one model on inputs that stay the same, but for what the cache knows.

    Args:
        model: with labels, in evaluation mode, its BatchNorms in the hands of ``calibration``.
        calibration: of the model.
        passes: the inputs, batch by batch.
        rows: of the first batch, that all BatchNorms take their statistics from.
        cache_bytes: that may be held; 0 runs the model as a whole.
        followed: the supernet that the model is a copy of.

    Raises:
        InvalidSpace: the model's ``stages()`` are not what its ``forward`` runs.
    """

    def __init__(
        self,
        model: nn.Module,
        calibration: Calibration,
        passes: Sequence[Nest],
        rows: int,
        cache_bytes: int,
        followed: Followed,
    ) -> None:
        self._model, self._calibration, self._followed = model, calibration, followed
        self._passes, self._rows = passes, rows
        self._examples = [rows_of(batch) for batch in passes]
        self.cache = PrefixCache(cache_bytes)
        weights = (*model.parameters(), *model.buffers())
        spans = spans_of(model) if cache_bytes > 0 and all(map(_lasts, weights)) else []
        shares = len(spans) > 1 and not _norms_shared(spans)
        self._spans = spans if shares else [Span((model,))]
        self._watch = _Watch(followed.model) if shares else None
        if shares and any(map(offers_stages, model.modules())):
            self._compare()

    @torch.inference_mode(False)
    @torch.no_grad()
    def run(self, arch: Mapping[str, Value]) -> list[Any]:
        """Return the outputs for every batch.

        All inputs go through a span before the next one begins, so that the statistics of its
        BatchNorms need not be kept with its results.

        Args:
            arch: an architecture known to be in the space.

        Raises:
            NeedsOwnPasses: a BatchNorm does, in this architecture.
        """
        self._followed.take_over()
        if self._watch is not None and self._watch.changed():
            self.cache.clear()
        activate_unchecked(self._model, arch)
        keys = self._keys(arch)
        done, kept = self.cache.longest(keys)
        tensors = list(self._passes if kept is None else kept)
        self.cache.hits += done
        self.cache.misses += len(self._spans) - done
        for at in range(done, len(self._spans)):
            self._through(self._spans[at], tensors, self._rows, inputs=at == 0)
            if at < len(keys):
                self.cache.put(keys[at], tuple(tensors))
        return tensors

    def _keys(self, arch: Mapping[str, Value]) -> list[Key]:
        """Return the keys of all prefixes but the whole, which no architecture asks for twice."""
        return list(accumulate((span.key(arch),) for span in self._spans[:-1]))

    def _through(self, span: Span, tensors: list[Any], rows: int, *, inputs: bool) -> None:
        """Replace every batch by what a span makes of it; the first one's rows calibrate.

        Args:
            span: that runs.
            tensors: what it is given, by batch.
            rows: that calibrate.
            inputs: whether that is what the model is called with, and no result of an earlier span.
        """
        first, *others = span.modules
        for at, x in enumerate(tensors):
            self._calibration.begin(rows, self._examples[at])
            x = call(first, self._here(x)) if inputs else first(x)
            for module in others:
                x = module(x)
            tensors[at], rows = x, 0

    def _here(self, inputs: Nest) -> Nest:
        """Return inputs where the model is: too many to lie there all are moved batch by batch."""
        weight = next(self._model.parameters(), None)
        return inputs if weight is None else moved(inputs, weight.device)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _compare(self) -> None:
        """Raise InvalidSpace unless stages and forward pass agree on one architecture."""
        self._followed.take_over()
        activate_unchecked(self._model, inner_space(self._model).sample(np.random.default_rng(0)))
        x = taken(self._passes[0], slice(TRIED))
        count = min(TRIED, self._examples[0])
        kept, self._examples = self._examples, [count]
        try:
            self._compare_on(x, count)
        finally:
            self._examples = kept

    def _compare_on(self, x: Nest, count: int) -> None:
        whole, staged = [mapped(Tensor.clone, x)], [mapped(Tensor.clone, x)]
        fault: Exception | None = None
        try:
            self._through(Span((self._model,)), whole, count, inputs=True)
        except NeedsOwnPasses:
            return  # it is run as a whole
        try:
            for at, span in enumerate(self._spans):
                self._through(span, staged, count, inputs=at == 0)
        except Exception as error:
            fault = error
        if fault is not None or _differ(whole[0], staged[0]):
            raise InvalidSpace(
                f"{type(self._model).__name__}: its stages() one after the other do not give what "
                "its forward() gives; list what forward() runs, in that order, or nothing"
            ) from fault


def _norms_shared(spans: Sequence[Span]) -> bool:
    """Return whether a BatchNorm stands in several spans: its statistics are then of none alone."""
    held = [
        {m for module in span.modules for m in module.modules() if isinstance(m, NORMS)}
        for span in spans
    ]
    return sum(map(len, held)) > len(set().union(*held))


def _differ(whole: Any, staged: Any) -> bool:
    first, second = tree_leaves(whole), tree_leaves(staged)
    if len(first) != len(second):
        return True
    return any(
        x.shape != y.shape or bool(((x - y).abs() > TOLERANCE * x.abs().max()).any())
        for x, y in zip(first, second, strict=True)
        if isinstance(x, Tensor)
    )
