"""Names of the metrics that raynas itself measures or looks up, besides accuracy and loss."""

from __future__ import annotations

COSTS = ("params", "macs", "activation_bytes")  # counted from the architecture alone
LATENCY = "latency_ms"  # by a table, or measured
DEVICES = ("cpu", "gpu")  # that latency is measured on
