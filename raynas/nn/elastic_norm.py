"""Normalisations whose channels, or whose shape, may be values."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raynas.nn.elastic import Arguments, ChannelAxis, Elastic, checked_whole, first, largest
from raynas.nn.expression import Expression


class TakesStatistics:
    """A BatchNorm that uses a part of its channels, and may be told the statistics of these.

    Attributes:
        statistics: in place of the running ones, what gives (mean, variance) of an input; set by
            the calibration that scores sub-networks.
    """

    statistics: Any = None

    def write_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Set the running statistics of the active channels."""
        raise TypeError(f"{type(self).__name__} must define write_statistics()")


class ElasticBatchNorm(TakesStatistics, Elastic):
    """What the BatchNorms of one and two dimensions have in common.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: of the running statistics; None averages plainly.
        affine: whether there are weights.
        track_running_stats: whether statistics are kept for evaluation.

    Attributes:
        kind: PyTorch's own layer.
    """

    kind: ClassVar[type[nn.BatchNorm1d | nn.BatchNorm2d]]
    dimensions: ClassVar = {"num_features": "width"}
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    momentum: float | None
    eps: float
    affine: bool
    track_running_stats: bool

    def __init__(
        self,
        num_features: int | Expression,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        checked_whole(type(self).__name__, {"num_features": num_features})
        own: Any = self  # its other base, which the type checker does not see here
        self.kind.__init__(own, largest(num_features), eps, momentum, affine, track_running_stats)
        self.label, self.arguments = "", {"num_features": num_features}

    def channel_axes(self) -> tuple[ChannelAxis, ...]:
        """Return those of weights and statistics."""
        names = ("weight", "bias", "running_mean", "running_var")
        return tuple(ChannelAxis(name, 0, "num_features") for name in names)

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return PyTorch's own layer of these channels."""
        channels = arguments["num_features"]
        tracked = self.track_running_stats
        return self.kind(channels, self.eps, self.momentum, self.affine, tracked)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the active channels."""
        part = self.sliced(self.now())
        weight, bias = part["weight"], part["bias"]
        if self.statistics is not None:
            mean, var = self.statistics(x)
            return nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.0, self.eps)
        mean, var = part["running_mean"], part["running_var"]
        rate = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                rate = 1.0 / float(self.num_batches_tracked)
        own = self.training or mean is None
        return nn.functional.batch_norm(x, mean, var, weight, bias, own, rate, self.eps)

    @torch.no_grad()
    def write_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Set the running statistics of the leading channels."""
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean[: len(mean)].copy_(mean)
        self.running_var[: len(var)].copy_(var)

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the first channels' weights and statistics."""
        channels = arguments["num_features"]
        tracked = {"num_batches_tracked": self.num_batches_tracked}
        names = ("weight", "bias", "running_mean", "running_var")
        return tracked | {name: first(getattr(self, name), channels) for name in names}


class BatchNorm1d(ElasticBatchNorm, nn.BatchNorm1d):  # type: ignore[misc]
    """``nn.BatchNorm1d`` whose features may be a value; arguments as ``ElasticBatchNorm``'s."""

    kind = nn.BatchNorm1d


class BatchNorm2d(ElasticBatchNorm, nn.BatchNorm2d):  # type: ignore[misc]
    """``nn.BatchNorm2d`` whose channels may be a value; arguments as ``ElasticBatchNorm``'s."""

    kind = nn.BatchNorm2d


class LayerNorm(Elastic, nn.LayerNorm):
    """``nn.LayerNorm`` whose shape may hold values.

    Args:
        normalized_shape: trailing sizes of the input, or the last one.
        eps: added to the variance.
        elementwise_affine: whether there are weights.
        bias: whether the weights include a bias.
    """

    dimensions: ClassVar = {"normalized_shape": "width"}

    def __init__(
        self,
        normalized_shape: int | Expression | tuple[int | Expression, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        shape = normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,)
        checked_whole("LayerNorm", {f"normalized_shape[{i}]": size for i, size in enumerate(shape)})
        sizes = [largest(size) for size in shape]
        nn.LayerNorm.__init__(self, sizes, eps, elementwise_affine, bias)
        self.label, self.arguments = "", {"normalized_shape": shape}

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the active shape."""
        now = self.now()
        part = self.sliced(now)
        shape = list(now["normalized_shape"])
        return nn.functional.layer_norm(x, shape, part["weight"], part["bias"], self.eps)

    def plain(self, arguments: Arguments) -> nn.Module:
        """Return an ``nn.LayerNorm``."""
        shape, biased = list(arguments["normalized_shape"]), self.bias is not None
        return nn.LayerNorm(shape, self.eps, self.elementwise_affine, biased, device="meta")

    def sliced(self, arguments: Arguments) -> dict[str, Any]:
        """Return the leading part of the weights."""
        shape = arguments["normalized_shape"]
        return {"weight": first(self.weight, *shape), "bias": first(self.bias, *shape)}
