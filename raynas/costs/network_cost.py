"""Counting the cost of a plain network by running it once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from raynas.core.metrics import KV_CACHE
from raynas.core.nest import Nest, call
from raynas.costs.meter import Meter, evaluating


@dataclass(frozen=True)
class Cost:
    """What one forward pass of one example needs.

    Attributes:
        params: numbers that training changes.
        macs: multiply-accumulates of convolutions and matrix products.
        activation_bytes: largest sum of all tensors that the pass holds at a time, its input
            included and weights left out.
        kv_cache_bytes: that one token of one example leaves in the caches of causal attention; None
            where that is not known, or there are none.
    """

    params: int
    macs: int
    activation_bytes: int
    kv_cache_bytes: int | None = None

    def as_metrics(self) -> dict[str, float]:
        """Return the cost as columns of the trial table."""
        metrics = {
            "params": float(self.params),
            "macs": float(self.macs),
            "activation_bytes": float(self.activation_bytes),
        }
        if self.kv_cache_bytes is not None:
            metrics[KV_CACHE] = float(self.kv_cache_bytes)
        return metrics


def cost_of(net: nn.Module, example: Nest) -> Cost:
    """Return what ``net`` costs on ``example``, a batch of one.

    Args:
        net: any module, choices (if any) activated; its mode and state are kept.
        example: inputs, each of shape (1, ...).
    """
    params = sum(p.numel() for p in net.parameters())
    with evaluating(net), Meter(example) as meter:
        call(net, example)
    return Cost(params, meter.total.macs, meter.total.peak_bytes)
