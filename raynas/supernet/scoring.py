"""Scoring sub-networks with a supernet's weights: one fused pass each, nothing written."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.arch import Value
from raynas.nn.mutable import name_labels
from raynas.supernet.calibration import calibrated
from raynas.supernet.prefix_cache import PrefixCache, PrefixRunner

CALIBRATION_IMAGES = 512
VALIDATION_IMAGES = 2000
ROWS = 1024  # per pass; larger activations are mapped and page-faulted anew at every call
CACHE_MB = 128  # per scorer


class SubnetScorer:
    """Measures loss and accuracy of architectures that inherit a supernet's weights.

    BatchNorm statistics come from the same calibration images for every architecture, in the pass
    that scores. The supernet's tensors are shared and only read. Where its forward pass is a chain
    (see ``raynas.supernet.stages``), architectures that begin alike share what they begin with;
    their scores are the same bit for bit.

    Args:
        supernet: with labels; it is not changed, and may go on being trained.
        train: (inputs, classes) that calibration images are taken from.
        valid: (inputs, classes) to score on.
        calibration_images: how many at most.
        validation_images: how many at most.
        seed: which images; the same for every architecture.
        cache_bytes: of activations that may be kept between architectures; 0 keeps none.

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
    ) -> None:
        if min(calibration_images, validation_images) < 1:
            raise ValueError("scoring needs at least one image to calibrate and one to validate")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must be at least 0, got {cache_bytes}")
        shared = {id(t): t for t in (*supernet.parameters(), *supernet.buffers())}
        model = copy.deepcopy(supernet, dict(shared)).eval()
        name_labels(model)
        calibration = calibrated(model)
        rng = torch.Generator().manual_seed(seed)
        x_train, _ = _some(train, calibration_images, rng)
        x_valid, self._classes = _some(valid, validation_images, rng)
        self._calibrating = len(x_train)
        # the first pass holds all calibration rows, which is what makes the statistics exact
        first = max(ROWS - len(x_train), 1)
        rest = x_valid[first:].split(ROWS)
        head = torch.cat([x_train, x_valid[:first]])
        self._passes = [_dense(part) for part in (head, *rest) if len(part)]
        self._runner = PrefixRunner(
            model, calibration, self._passes, self._calibrating, cache_bytes
        )

    @property
    def cache(self) -> PrefixCache:
        """What is kept between architectures, and how often it was of use."""
        return self._runner.cache

    @torch.no_grad()
    def score(self, arch: Mapping[str, Value]) -> dict[str, float]:
        """Return ``accuracy`` (0 to 1) and ``loss`` (mean cross-entropy) on the validation images.

        Args:
            arch: an architecture known to be in the space.
        """
        first, *rest = self._runner.run(arch)
        logits = torch.cat([first[self._calibrating :], *rest]).float()
        right = (logits.argmax(1) == self._classes).double().mean()
        loss = functional.cross_entropy(logits, self._classes).double()
        accuracy, loss_value = torch.stack([right, loss]).tolist()
        return {"accuracy": accuracy, "loss": loss_value}


def _some(
    examples: tuple[Tensor, Tensor], most: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    x, y = examples
    order = torch.randperm(len(y), generator=rng)[:most].to(y.device)
    return x[order], y[order]


def _dense(x: Tensor) -> Tensor:
    """Return images with channels last, which convolutions on CPU are fastest on."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()
