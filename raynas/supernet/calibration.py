"""BatchNorm recalibrated inside the forward pass that scores, without writing to the model.

The first rows of a batch are calibration images: every BatchNorm takes its statistics from them,
layer by layer, and normalises all rows by these. Those are the exact statistics of the images under
the active architecture, and no buffer changes, so weights may be shared read-only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.nn.elastic_norm import ElasticBatchNorm

Moments = tuple[Tensor, Tensor]


@dataclass
class Calibration:
    """What all BatchNorms of one model share: how many rows calibrate the pass under way.

    Attributes:
        rows: leading rows that give the statistics; 0 re-uses those of the last pass.
        moments: (mean, biased variance) of every BatchNorm call of that pass, in order.
    """

    rows: int = 0
    moments: list[Moments] = field(default_factory=list)
    calls: int = 0

    def begin(self, rows: int) -> None:
        """Start a pass whose first ``rows`` rows calibrate (0: the last pass's statistics hold)."""
        self.rows, self.calls = rows, 0
        if rows:
            self.moments.clear()

    def of(self, x: Tensor) -> Moments:
        """Return the statistics for this BatchNorm call."""
        if self.rows:
            self.moments.append(torch.batch_norm_update_stats(x[: self.rows], None, None, 0.0))
        self.calls += 1
        return self.moments[self.calls - 1]


class CalibratedBatchNorm(nn.Module):
    """Stands in for a BatchNorm whose weights it shares."""

    def __init__(self, original: _BatchNorm, calibration: Calibration) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = original.weight, original.bias, original.eps
        self._calibration = calibration

    def forward(self, x: Tensor) -> Tensor:
        """Normalise all rows by the calibration rows' statistics."""
        mean, var = self._calibration.of(x)
        return functional.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)


def calibrated(model: nn.Module) -> Calibration:
    """Replace every BatchNorm of ``model``, tell elastic ones, and return what controls them."""
    calibration = Calibration()
    for module in list(model.modules()):
        if isinstance(module, ElasticBatchNorm):
            module.statistics = calibration.of
        for name, child in list(module._modules.items()):  # children() leaves repeated ones out
            if isinstance(child, _BatchNorm) and not isinstance(child, ElasticBatchNorm):
                setattr(module, name, CalibratedBatchNorm(child, calibration))
    return calibration


@torch.no_grad()
def recalibrate(model: nn.Module, images: Tensor, batch: int = 512) -> None:
    """Write BatchNorm statistics of ``images`` into a model: plain averages, no momentum.

    Each BatchNorm takes the image-weighted mean of the batches' means and biased variances (Cai et
    al., 2020, arXiv:1908.09791, as in the authors' code); one batch gives the exact statistics.

    Args:
        model: whose buffers are written; its mode is kept.
        images: shape (count, ...).
        batch: images per pass at most; passes are of about equal size, since training mode refuses
            a lone row.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    sums: dict[_BatchNorm, tuple[Tensor, Tensor, int]] = {}

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        mean, var = torch.batch_norm_update_stats(inputs[0], None, None, 0.0)
        count = len(inputs[0])
        total_mean, total_var, total = sums.get(norm, (0.0 * mean, 0.0 * var, 0))
        sums[norm] = (total_mean + count * mean, total_var + count * var, total + count)

    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_pre_hook(collect) for norm in norms]
    model.eval()
    for norm in norms:
        norm.training, norm.momentum = True, 0.0  # normalises by the batch's own, keeps no average
    try:
        for chunk in images.chunk(math.ceil(len(images) / batch)):
            model(chunk)
    finally:
        for hook, norm, momentum in zip(hooks, norms, momenta, strict=True):
            hook.remove()
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    for norm, (mean, var, count) in sums.items():
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.copy_(mean / count)
            norm.running_var.copy_(var / count)
