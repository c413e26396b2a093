"""Scoring sub-networks with a supernet's weights: one fused pass each, nothing written."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.arch import Value
from raynas.nn.calibration import calibrated
from raynas.nn.mutable import activate_unchecked, name_labels

CALIBRATION_IMAGES = 512
VALIDATION_IMAGES = 2000
ROWS = 1024  # per pass; larger activations are mapped and page-faulted anew at every call


class SubnetScorer:
    """Measures loss and accuracy of architectures that inherit a supernet's weights.

    BatchNorm statistics come from the same calibration images for every architecture, in the pass
    that scores. The supernet's tensors are shared and only read.

    Args:
        supernet: with labels; it is not changed, and may go on being trained.
        train: (inputs, classes) that calibration images are taken from.
        valid: (inputs, classes) to score on.
        calibration_images: how many at most.
        validation_images: how many at most.
        seed: which images; the same for every architecture.
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
    ) -> None:
        if min(calibration_images, validation_images) < 1:
            raise ValueError("scoring needs at least one image to calibrate and one to validate")
        shared = {id(t): t for t in (*supernet.parameters(), *supernet.buffers())}
        self._model = copy.deepcopy(supernet, dict(shared)).eval()
        name_labels(self._model)
        self._calibration = calibrated(self._model)
        rng = torch.Generator().manual_seed(seed)
        x_train, _ = _some(train, calibration_images, rng)
        x_valid, self._classes = _some(valid, validation_images, rng)
        self._calibrating = len(x_train)
        # the first pass holds all calibration rows, which is what makes the statistics exact
        first = max(ROWS - len(x_train), 1)
        rest = x_valid[first:].split(ROWS)
        head = torch.cat([x_train, x_valid[:first]])
        self._passes = [_dense(part) for part in (head, *rest) if len(part)]

    @torch.inference_mode()
    def score(self, arch: Mapping[str, Value]) -> dict[str, float]:
        """Return ``accuracy`` (0 to 1) and ``loss`` (mean cross-entropy) on the validation images.

        Args:
            arch: an architecture known to be in the space.
        """
        activate_unchecked(self._model, arch)
        rows, outputs = self._calibrating, []
        for x in self._passes:
            self._calibration.begin(rows)
            outputs.append(self._model(x)[rows:])
            rows = 0
        logits = torch.cat(outputs).float()
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
