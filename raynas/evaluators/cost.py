"""What an architecture costs, without weights that mean anything."""

from __future__ import annotations

from torch import nn

from raynas.core.evaluator import EVALUATORS
from raynas.core.metrics import COSTS
from raynas.costs.network_cost import cost_of
from raynas.data.module import DataModule


@EVALUATORS.register("cost")
class CostOnly:
    """Counts ``params``, ``macs`` and ``activation_bytes`` of one example's pass, all exactly."""

    metrics = COSTS
    deterministic = True

    def measure(self, net: nn.Module, data: DataModule, seed: int) -> dict[str, float]:
        """Return the three counts."""
        return cost_of(net, data.load().train[0][:1]).as_metrics()
