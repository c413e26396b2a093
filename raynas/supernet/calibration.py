"""BatchNorm statistics of a sub-network, taken from calibration images.

Either inside the forward pass that scores, without writing to the model: the first rows of a batch
are calibration images, every BatchNorm takes its statistics from them, layer by layer, and
normalises all rows by these. Or in passes of their own, after which the model's buffers hold them.
Both give the exact statistics of the images under the active architecture, one pair for each
BatchNorm. Where one runs twice in a pass, that takes passes of their own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.core.nest import Nest, call, moved, rows, taken
from raynas.nn.elastic_norm import ElasticBatchNorm, TakesStatistics
from raynas.supernet.attributes import attributes_kept, modes_kept

Moments = tuple[Tensor, Tensor]
Part = tuple[Tensor, Tensor, int]  # mean, biased variance, and rows of one call


class NeedsOwnPasses(Exception):
    """A BatchNorm cannot calibrate in the pass that scores.

    It runs more than once in it, so that its statistics are not those of one call, or the rows of
    its input are no examples.
    """


@dataclass
class Calibration:
    """What all BatchNorms of one model share: how many rows calibrate the pass under way.

    Attributes:
        rows: leading rows that give the statistics; 0 re-uses those of the last pass.
        examples: that the pass under way has; 0 is any number.
        moments: (mean, biased variance) of every BatchNorm that ran in that pass.
    """

    rows: int = 0
    examples: int = 0
    moments: dict[nn.Module, Moments] = field(default_factory=dict)

    def begin(self, rows: int, examples: int = 0) -> None:
        """Start a pass of ``examples`` (0: of any number), whose first ``rows`` rows calibrate.

        With 0 rows the last pass's statistics hold.
        """
        self.rows, self.examples = rows, examples
        if rows:
            self.moments.clear()

    def of(self, norm: nn.Module, x: Tensor) -> Moments:
        """Return the statistics of a BatchNorm, whose input is ``x``.

        Raises:
            NeedsOwnPasses: it has calibrated in this pass already, or the rows of ``x`` are not
                the pass's examples (time steps, say, that were joined with them).
        """
        if self.rows:
            if norm in self.moments or len(x) != (self.examples or len(x)):
                raise NeedsOwnPasses
            self.moments[norm] = torch.batch_norm_update_stats(x[: self.rows], None, None, 0.0)
        return self.moments[norm]


class CalibratedBatchNorm(nn.Module):
    """Stands in for a BatchNorm whose weights it shares."""

    def __init__(self, original: _BatchNorm, calibration: Calibration) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = original.weight, original.bias, original.eps
        self._calibration = calibration

    def forward(self, x: Tensor) -> Tensor:
        """Normalise all rows by the calibration rows' statistics."""
        mean, var = self._calibration.of(self, x)
        return functional.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)


def calibrated_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorms whose statistics are an architecture's own.

    Those that stay in evaluation mode while the model trains are frozen: they keep theirs. Those
    that track none take them from what they are given.

    Args:
        model: whose mode is changed; call ``eval`` or ``train`` afterwards.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if norms:
        model.train()
    return [norm for norm in norms if norm.training]


def replaceable(norm: _BatchNorm) -> bool:
    """Return whether a BatchNorm computes what PyTorch's does, and nothing else."""
    hooked = norm._forward_hooks or norm._forward_pre_hooks or "forward" in vars(norm)
    plain = type(norm).forward is _BatchNorm.forward or isinstance(norm, TakesStatistics)
    return plain and not hooked and not hasattr(norm, "parametrizations")


def calibrates_in_passing(model: nn.Module) -> bool:
    """Return whether a pass that scores can give all BatchNorms their statistics too.

    Not where one computes in a way of its own, or normalises by whatever it is given.

    Args:
        model: whose mode is changed, as by ``calibrated_norms``.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracking = all(norm.running_mean is not None for norm in norms)
    return tracking and all(map(replaceable, calibrated_norms(model)))


def calibrated(model: nn.Module, norms: Collection[_BatchNorm] | None = None) -> Calibration:
    """Replace BatchNorms of ``model``, tell elastic ones, and return what controls them.

    Args:
        model: whose modules are replaced.
        norms: that are calibrated; None takes all.
    """
    calibration, chosen = Calibration(), None if norms is None else set(norms)
    stand_ins: dict[nn.Module, CalibratedBatchNorm] = {}
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):  # children() leaves repeated ones out
            if not isinstance(child, _BatchNorm) or (chosen is not None and child not in chosen):
                continue
            if isinstance(child, TakesStatistics):
                child.statistics = partial(calibration.of, child)
                continue
            if child not in stand_ins:
                stand_ins[child] = CalibratedBatchNorm(child, calibration)
            setattr(module, name, stand_ins[child])
    return calibration


@torch.no_grad()
def recalibrate(model: nn.Module, inputs: Nest, batch: int = 512) -> None:
    """Write BatchNorm statistics of ``inputs`` into a model: plain averages, no momentum.

    Each BatchNorm takes the image-weighted mean of the batches' means and biased variances (Cai et
    al., 2020, arXiv:1908.09791, as in the authors' code); one batch gives the exact statistics. One
    that is frozen keeps its own (``calibrated_norms``). One that runs several times in a pass takes
    mean and variance over all of these together, and the others take theirs after it has them.

    Args:
        model: whose buffers are written; its mode is kept, and so is what it computes with beside.
        inputs: tensors of shape (count, ...).
        batch: examples per pass at most; passes are of about equal size, since training mode
            refuses a lone row.
    """
    with modes_kept(model), attributes_kept(model):
        norms = calibrated_norms(model)
        model.eval()
        if norms:
            _recalibrate(model, norms, chunks(inputs, math.ceil(rows(inputs) / batch)))


def chunks(inputs: Nest, count: int) -> list[Nest]:
    """Return the parts of a batch, so many of about equal size at most."""
    places = torch.arange(rows(inputs)).chunk(count)
    return [taken(inputs, slice(int(part[0]), int(part[-1]) + 1)) for part in places]


def _recalibrate(model: nn.Module, norms: list[_BatchNorm], batches: Sequence[Nest]) -> None:
    measured = _measured(model, norms, batches)
    several = {norm: sums for norm, sums in measured.items() if sums.calls > len(batches)}
    if several:
        _write(several)
        measured = _measured(model, [norm for norm in norms if norm not in several], batches)
    _write(measured)


@dataclass
class _Sums:
    """Means and variances of one BatchNorm's inputs, weighted by their rows and added up."""

    mean: Tensor
    var: Tensor
    rows: int = 0
    calls: int = 0

    def add(self, parts: list[Part]) -> None:
        """Add what one batch gave, in one call or several."""
        (mean, var, rows), *others = parts
        if others:
            rows = sum(count for _, _, count in parts)
            means = torch.stack([mean for mean, _, _ in parts])
            variances = torch.stack([var for _, var, _ in parts])
            shares = means.new_tensor([count / rows for _, _, count in parts])[:, None]
            mean = (shares * means).sum(0)
            var = (shares * (variances + (means - mean) ** 2)).sum(0)
        self.mean, self.var = self.mean + rows * mean, self.var + rows * var
        self.rows, self.calls = self.rows + rows, self.calls + len(parts)


Parts = dict[_BatchNorm, list[Part]]


def _measured(
    model: nn.Module, norms: list[_BatchNorm], batches: Sequence[Nest]
) -> dict[_BatchNorm, _Sums]:
    """Run the batches while ``norms`` normalise by each input's own statistics; return these."""
    sums: dict[_BatchNorm, _Sums] = {}
    weights = (*model.parameters(), *model.buffers())
    place = next((tensor.device for tensor in weights), torch.device("cpu"))
    for batch in batches:
        parts: Parts = {}
        with ExitStack() as stack:
            for norm in norms:
                stack.enter_context(_measuring(norm, parts))
            call(model, moved(batch, place))
        for norm, given in parts.items():
            mean, var, _ = given[0]
            sums.setdefault(norm, _Sums(0.0 * mean, 0.0 * var)).add(given)
    return sums


@contextmanager
def _measuring(norm: _BatchNorm, parts: Parts) -> Iterator[None]:
    """Let a BatchNorm normalise by its inputs, and note what these are like."""
    by_input = replaceable(norm)
    before: dict[str, Any] = {k: v for k, v in vars(norm).items() if k in ("momentum", "forward")}
    forward = norm.forward

    def measured(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if by_input:
            mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
            out = _normalised(norm, x, mean, var)
        else:
            out = forward(x, *args, **kwargs)
            mean, var = _of_buffers(norm, x)
        parts.setdefault(norm, []).append((mean, var, len(x)))
        return out

    norm.training = not by_input
    norm.momentum = 1.0  # the last batch's own, where only its buffers tell
    vars(norm)["forward"] = measured
    try:
        yield
    finally:
        norm.training = False
        del vars(norm)["forward"]
        vars(norm).update(before)


def _normalised(norm: _BatchNorm, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Return what a BatchNorm that computes as PyTorch's does makes of statistics that are known.

    In training mode it would take them anew.
    """
    weight, bias = norm.weight, norm.bias
    if isinstance(norm, ElasticBatchNorm):
        part = norm.sliced(norm.now())
        weight, bias = part["weight"], part["bias"]
    return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, norm.eps)


def _of_buffers(norm: _BatchNorm, x: Tensor) -> Moments:
    """Return what a BatchNorm that computes in a way of its own has taken for its statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = x.numel() / x.shape[1]
    return norm.running_mean.clone(), norm.running_var * ((count - 1) / count)


def _write(measured: Mapping[_BatchNorm, _Sums]) -> None:
    for norm, sums in measured.items():
        mean, var = sums.mean / sums.rows, sums.var / sums.rows
        if isinstance(norm, TakesStatistics):  # it may use some of its channels
            norm.write_statistics(mean, var)
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
