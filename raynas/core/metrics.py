"""Names of the metrics that raynas itself measures or looks up, besides accuracy and loss."""

from __future__ import annotations

COSTS = ("params", "macs", "activation_bytes")  # counted from the architecture alone
PEAKS = ("activation_bytes",)  # of these costs, which are largest parts and no sums
KV_CACHE = "kv_cache_bytes"  # likewise, of decoders: what one token of one example leaves behind
LATENCY = "latency_ms"  # by a table, or measured
DIVERGENCE = "divergence"  # of outputs from those of the whole supernet
INFLUENCE = "influence"  # of layers that are left out, in the whole supernet
DEVICES = ("cpu", "gpu")  # that latency is measured on


def probed(metric: str) -> str:
    """Return the column of a training's history for what is measured on validation data.

    >>> probed("accuracy"), probed("loss")
    ('accuracy', 'valid_loss')
    """
    return "valid_loss" if metric == "loss" else metric  # there, loss is that of training
