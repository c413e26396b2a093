"""Scoring sub-networks with a supernet's weights: nothing is written to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.core.arch import Value
from raynas.nn.mutable import activate_unchecked, name_labels
from raynas.supernet.attributes import Followed, copy_of
from raynas.supernet.calibration import (
    RunsTwice,
    calibrated,
    calibrated_norms,
    calibrates_in_passing,
    recalibrate,
)
from raynas.supernet.memory_layout import in_layout, lay_out, runs_channels_last
from raynas.supernet.outputs import logits_in
from raynas.supernet.prefix_cache import PrefixCache, PrefixRunner

CALIBRATION_IMAGES = 512
VALIDATION_IMAGES = 2000
ROWS = 1024  # per pass; larger activations are mapped and page-faulted anew at every call
CACHE_MB = 128  # per scorer
TRIED = 2  # images that show which memory layout the model runs with


class SubnetScorer:
    """Measures loss and accuracy of architectures that inherit a supernet's weights.

    BatchNorm statistics come from the same calibration images for every architecture, in the pass
    that scores; where that cannot be (``calibrates_in_passing``, or a BatchNorm that runs twice),
    in a pass before. Frozen BatchNorms keep theirs. The supernet's tensors are shared and only
    read. Where its forward pass is a chain (see ``raynas.supernet.stages``), architectures that
    begin alike share what they begin with; their scores are the same bit for bit.

    Args:
        supernet: with labels; it is not changed, and may go on being trained.
        train: (inputs, classes) that calibration images are taken from.
        valid: (inputs, classes) to score on.
        calibration_images: how many at most.
        validation_images: how many at most.
        seed: which images; the same for every architecture.
        cache_bytes: of activations that may be kept between architectures; 0 keeps none.
        channels_last: whether the supernet runs so; None finds out, and lays its weights out anew
            if it does not.

    Raises:
        ValueError: no image to calibrate or to validate, or ``cache_bytes`` is negative.
        InvalidSpace: the supernet's ``stages()`` are not what its ``forward`` runs.
    """

    def __init__(
        self,
        supernet: nn.Module,
        train: tuple[Tensor, Tensor],
        valid: tuple[Tensor, Tensor],
        *,
        calibration_images: int = CALIBRATION_IMAGES,
        validation_images: int = VALIDATION_IMAGES,
        seed: int = 0,
        cache_bytes: int = CACHE_MB * 2**20,
        channels_last: bool | None = None,
    ) -> None:
        if min(calibration_images, validation_images) < 1:
            raise ValueError("scoring needs at least one image to calibrate and one to validate")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must be at least 0, got {cache_bytes}")
        rng = torch.Generator().manual_seed(seed)
        x_train, _ = _some(train, calibration_images, rng)
        x_valid, self._classes = _some(valid, validation_images, rng)
        if channels_last is None:
            channels_last = runs_channels_last(supernet, x_valid[:TRIED])
            if not channels_last:
                lay_out(supernet, channels_last=False)
        self._supernet, self._channels_last = supernet, channels_last
        self._x_train, self._x_valid = x_train, x_valid
        self._calibrating = len(x_train)
        # the first pass holds all calibration rows, which is what makes the statistics exact
        first = max(ROWS - len(x_train), 1)
        head = torch.cat([x_train, x_valid[:first]])
        self._passes = self._dense(head, *x_valid[first:].split(ROWS))
        self._cache_bytes = cache_bytes
        self._fused = self._fused_runner()

    @property
    def cache(self) -> PrefixCache:
        """What is kept between architectures, and how often it was of use."""
        return PrefixCache(self._cache_bytes) if self._fused is None else self._fused.cache

    @torch.no_grad()
    def score(self, arch: Mapping[str, Value]) -> dict[str, float]:
        """Return ``accuracy`` (0 to 1) and ``loss`` (mean cross-entropy) on the validation images.

        Args:
            arch: an architecture known to be in the space.
        """
        logits = torch.cat(self._outputs(arch)).float()
        right = (logits.argmax(1) == self._classes).double().mean()
        loss = functional.cross_entropy(logits, self._classes).double()
        accuracy, loss_value = torch.stack([right, loss]).tolist()
        return {"accuracy": accuracy, "loss": loss_value}

    def _outputs(self, arch: Mapping[str, Value]) -> list[Tensor]:
        if self._fused is not None:
            try:
                first, *rest = map(logits_in, self._fused.run(arch))
            except RunsTwice:
                pass
            else:
                return [first[self._calibrating :], *rest]
        return self._separate.run(arch)

    def _fused_runner(self) -> PrefixRunner | None:
        """Return what calibrates in the pass that scores; None if that cannot be."""
        statistics = [t for norm in _norms(self._supernet) for t in norm.buffers()]
        shared = {id(t): t for t in (*self._supernet.parameters(), *statistics)}
        model = copy_of(self._supernet, shared)
        followed = Followed(self._supernet, model, shared)
        in_passing, norms = calibrates_in_passing(model), calibrated_norms(model)
        model.eval()
        if not in_passing:
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
    def _separate(self) -> _Separate:
        (images,) = self._dense(self._x_train)
        return _Separate(self._supernet, images, self._dense(*self._x_valid.split(ROWS)))

    def _dense(self, *parts: Tensor) -> list[Tensor]:
        return [in_layout(part, self._channels_last) for part in parts if len(part)]


class _Separate:
    """Runs architectures after passes that calibrate them, as a network of its own is.

    Args:
        supernet: whose weights are shared; its BatchNorms' statistics are not, but frozen ones.
        images: to calibrate with.
        passes: the inputs.
    """

    def __init__(self, supernet: nn.Module, images: Tensor, passes: Sequence[Tensor]) -> None:
        shared = {id(t): t for t in supernet.parameters()}
        self._model = copy_of(supernet, shared)
        self._followed = Followed(supernet, self._model, shared)
        own = calibrated_norms(self._model)
        for norm, original in zip(_norms(self._model), _norms(supernet), strict=True):
            if norm not in own:
                norm._buffers.update(original._buffers)
        self._model.eval()
        name_labels(self._model)
        self._images, self._passes = images, passes

    @torch.inference_mode(False)
    @torch.no_grad()
    def run(self, arch: Mapping[str, Value]) -> list[Tensor]:
        """Return the outputs for every input."""
        self._followed.take_over()
        activate_unchecked(self._model, arch)
        recalibrate(self._model, self._images, len(self._images))
        return [logits_in(self._model(x)) for x in self._passes]


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _some(
    examples: tuple[Tensor, Tensor], most: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    x, y = examples
    order = torch.randperm(len(y), generator=rng)[:most].to(y.device)
    return x[order], y[order]
