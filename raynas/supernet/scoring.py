"""Scoring sub-networks with a supernet's weights: nothing is written to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from raynas.core.arch import Value
from raynas.core.metrics import DIVERGENCE
from raynas.core.nest import Nest, call, leaves, mapped, moved, rows, taken, zipped
from raynas.data.split import Split, split_of
from raynas.nn.mutable import activate_unchecked, name_labels
from raynas.supernet.attributes import Followed, copy_of
from raynas.supernet.calibration import (
    NeedsOwnPasses,
    calibrated,
    calibrated_norms,
    calibrates_in_passing,
    recalibrate,
)
from raynas.supernet.held_examples import bytes_of, read_once
from raynas.supernet.memory_layout import in_layout, lay_out, runs_channels_last
from raynas.supernet.prefix_cache import PrefixCache, PrefixRunner
from raynas.supernet.whole_model import divergence, influences
from raynas.tasks import Task
from raynas.tasks.classification import Classification

CALIBRATION_IMAGES = 512
VALIDATION_IMAGES = 2000
ROWS = 1024  # per pass; larger activations are mapped and page-faulted anew at every call
CACHE_MB = 128  # per scorer
HOLD_MB = 1024  # of streamed images, per scorer
PASS_BYTES = 256 * 2**20  # of inputs in a pass: of large images fewer rows
TRIED = 2  # images that show which memory layout the model runs with

Examples = tuple[Nest, Nest]


class SubnetScorer:
    """Measures a task's metrics of architectures that inherit a supernet's weights.

    BatchNorm statistics come from the same calibration images for every architecture, in the pass
    that scores; where that cannot be (``calibrates_in_passing``, or a BatchNorm that runs twice),
    in passes before. Frozen BatchNorms keep theirs. The supernet's tensors are shared and only
    read. Where its forward pass is a chain (see ``raynas.supernet.stages``), architectures that
    begin alike share what they begin with; their scores are the same bit for bit.

    Args:
        supernet: with labels; it is not changed, and may go on being trained.
        train: (inputs, targets) that calibration images are taken from.
        valid: (inputs, targets) to score on.
        task: that says what is measured; None is classification.
        calibration_images: how many at most.
        validation_images: how many at most.
        seed: which images; the same for every architecture.
        cache_bytes: of activations that may be kept between architectures; 0 keeps none.
        hold_bytes: of images to calibrate, and of images to validate, that are held in memory where
            the data are streamed; what is more lies in a temporary file.
        channels_last: whether the supernet runs so; None finds out, and lays its weights out anew
            if it does not.
        whole: the architecture that outputs are compared with: its ``divergence`` is one more
            metric; None compares with none.

    Raises:
        ValueError: no image to calibrate or to validate, or ``cache_bytes`` is negative.
        InvalidSpace: the supernet's ``stages()`` are not what its ``forward`` runs.
    """

    def __init__(
        self,
        supernet: nn.Module,
        train: Examples | Split,
        valid: Examples | Split,
        *,
        task: Task | None = None,
        calibration_images: int = CALIBRATION_IMAGES,
        validation_images: int = VALIDATION_IMAGES,
        seed: int = 0,
        cache_bytes: int = CACHE_MB * 2**20,
        hold_bytes: int = HOLD_MB * 2**20,
        channels_last: bool | None = None,
        whole: Mapping[str, Value] | None = None,
    ) -> None:
        if min(calibration_images, validation_images) < 1:
            raise ValueError("scoring needs at least one image to calibrate and one to validate")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must be at least 0, got {cache_bytes}")
        rng = torch.Generator().manual_seed(seed)
        self._task = Classification() if task is None else task
        self._hold_bytes = hold_bytes
        device = _device_of(supernet)
        train_inputs, _ = self._some(train, calibration_images, rng, device)
        inputs, self._targets = self._some(valid, validation_images, rng, device)
        if channels_last is None:
            channels_last = runs_channels_last(supernet, taken(inputs, slice(TRIED)))
            if not channels_last:
                lay_out(supernet, channels_last=False)
        self._supernet, self._channels_last = supernet, channels_last
        self._train_inputs, self._inputs = train_inputs, inputs
        self._calibrating, self._rows = rows(train_inputs), _rows_of_a_pass(inputs)
        self._cache_bytes, self._whole = cache_bytes, whole
        self._fused = self._fused_runner()

    @property
    def cache(self) -> PrefixCache:
        """What is kept between architectures, and how often it was of use."""
        return PrefixCache(self._cache_bytes) if self._fused is None else self._fused.cache

    @torch.no_grad()
    def score(self, arch: Mapping[str, Value]) -> dict[str, float]:
        """Return the task's metrics, such as ``accuracy`` and ``loss``, on the validation images.

        Args:
            arch: an architecture known to be in the space.
        """
        state, at, apart = self._task.state(), 0, 0.0
        for number, (output, count) in enumerate(self._outputs(arch)):
            part = slice(at, at + count)
            state.update(output, None if self._targets is None else taken(self._targets, part))
            at += count
            if self._whole is not None:
                whole = self._whole_outputs[number]
                apart += count * divergence(output, whole, self._task.class_dim)
        return state.compute() | ({} if self._whole is None else {DIVERGENCE: apart / at})

    @cached_property
    def _whole_outputs(self) -> list[Any]:
        """Outputs of the architecture that others are compared with, by batch."""
        assert self._whole is not None
        return [output for output, _ in self._outputs(self._whole)]

    def influences(self, whole: Mapping[str, Value]) -> dict[str, float]:
        """Return the influence of each layer that may be left out, by its label.

        Args:
            whole: the architecture that has them all.

        Raises:
            TypeError: the supernet is of no converted model.
        """
        return influences(self._supernet, whole, self._train_inputs, self._rows)

    def _outputs(self, arch: Mapping[str, Value]) -> Iterator[tuple[Any, int]]:
        """Yield outputs for the validation images, and for how many."""
        if self._fused is not None:
            try:
                first_out, *rest = self._fused.run(arch)
            except NeedsOwnPasses:
                pass
            else:
                (head, *others), begin = self._passes, self._calibrating
                yield self._task.output(_without(first_out, begin, rows(head))), rows(head) - begin
                for out, batch in zip(rest, others, strict=True):
                    yield self._task.output(out), rows(batch)
                return
        for out, batch in zip(self._separate.run(arch), self._separate.passes, strict=True):
            yield self._task.output(out), rows(batch)

    def _fused_runner(self) -> PrefixRunner | None:
        """Return what calibrates in the pass that scores; None if that cannot be."""
        statistics = [t for norm in _norms(self._supernet) for t in norm.buffers()]
        shared = {id(t): t for t in (*self._supernet.parameters(), *statistics)}
        model = copy_of(self._supernet, shared)
        followed = Followed(self._supernet, model, shared)
        in_passing, norms = calibrates_in_passing(model), calibrated_norms(model)
        model.eval()
        if not in_passing or not self._passes:
            return None
        name_labels(model)
        return PrefixRunner(
            model,
            calibrated(model, norms),
            self._passes,
            self._calibrating,
            self._cache_bytes,
            followed,
        )

    @cached_property
    def _passes(self) -> list[Nest]:
        """The inputs, the first batch led by all calibration rows: so statistics are exact.

        None at all where these take passes of their own: they are of other shapes than validation
        images, or large, or the model computes a loss over all that it is given.
        """
        many = self._calibrating * _bytes_of_a_row(self._inputs) > 2 * PASS_BYTES
        if self._task.computes_loss_in_model or many:
            return []
        at = max(self._rows - self._calibrating, 1)
        try:
            head = zipped(torch.cat, [self._train_inputs, taken(self._inputs, slice(at))])
        except (RuntimeError, ValueError):
            return []
        return self._dense(head, *_batches(self._inputs, at, self._rows))

    @cached_property
    def _separate(self) -> _Separate:
        (images,) = self._dense(self._train_inputs)
        passes = self._dense(*_batches(self._inputs, 0, self._rows))
        return _Separate(self._supernet, images, self._rows, passes)

    def _dense(self, *parts: Nest) -> list[Nest]:
        return [mapped(partial(in_layout, channels_last=self._channels_last), x) for x in parts]

    def _some(
        self, part: Examples | Split, most: int, rng: torch.Generator, device: torch.device | None
    ) -> tuple[Nest, Nest]:
        """Return what the model is called with, and targets, of some random examples."""
        split = split_of(part)
        order = torch.randperm(len(split), generator=rng)[:most]
        read = read_once(split, order.tolist(), self._hold_bytes)
        inputs, targets = self._task.examples(*read)
        if device is not None:  # what is large stays where it is, and is moved pass by pass
            small = bytes_of(inputs) <= self._hold_bytes
            inputs = moved(inputs, device) if small else inputs
            targets = moved(targets, device)
        return self._task.inputs(inputs, targets), targets


class _Separate:
    """Runs architectures after passes that calibrate them, as a network of its own is.

    Args:
        supernet: whose weights are shared; its BatchNorms' statistics are not, but frozen ones.
        images: to calibrate with.
        rows: of these in a pass, at most.
        passes: the inputs, batch by batch.
    """

    def __init__(
        self, supernet: nn.Module, images: Nest, rows: int, passes: Sequence[Nest]
    ) -> None:
        shared = {id(t): t for t in supernet.parameters()}
        self._model = copy_of(supernet, shared)
        self._followed = Followed(supernet, self._model, shared)
        own = calibrated_norms(self._model)
        for norm, original in zip(_norms(self._model), _norms(supernet), strict=True):
            if norm not in own:
                norm._buffers.update(original._buffers)
        self._model.eval()
        name_labels(self._model)
        self._images, self._rows, self.passes = images, rows, passes

    @torch.inference_mode(False)
    @torch.no_grad()
    def run(self, arch: Mapping[str, Value]) -> Iterator[Any]:
        """Yield the outputs for every batch of the inputs."""
        self._followed.take_over()
        activate_unchecked(self._model, arch)
        recalibrate(self._model, self._images, self._rows)
        device = _device_of(self._model)
        for inputs in self.passes:
            yield call(self._model, inputs if device is None else moved(inputs, device))


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _device_of(model: nn.Module) -> torch.device | None:
    """Return where a model lies; None if it holds nothing."""
    tensor = next((t for t in (*model.parameters(), *model.buffers())), None)
    return None if tensor is None or tensor.is_meta else tensor.device


def _bytes_of_a_row(inputs: Nest) -> int:
    return sum(leaf[:1].nbytes for leaf in leaves(inputs))


def _rows_of_a_pass(inputs: Nest) -> int:
    return min(ROWS, max(1, PASS_BYTES // max(1, _bytes_of_a_row(inputs))))


def _batches(inputs: Nest, begin: int, size: int) -> list[Nest]:
    """Return the rows from ``begin`` on, in batches."""
    count = rows(inputs)
    return [taken(inputs, slice(at, at + size)) for at in range(begin, count, size)]


def _without(out: Any, begin: int, count: int) -> Any:
    """Return the output for a batch of ``count`` rows but for its first ones."""
    return tree_map_only(Tensor, lambda t: t[begin:] if t.shape[:1] == (count,) else t, out)
