"""Paths of a cell that examples skip at random (Larsson et al., 2017, arXiv:1605.07648)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from raynas.nn.fixed_cell import FixedCell


class DropPath:
    """Zeroes what operations of a network's cells give, for each example with some probability.

    What is left is divided by the probability to stay, as in DARTS' code. Operations that hand on
    their input are never dropped. It acts in training mode alone; modules and weights keep their
    names.

    Args:
        net: with decided cells.

    Attributes:
        probability: to be dropped, 0 at first.

    Raises:
        ValueError: the network has no cell with operations to drop.
    """

    def __init__(self, net: nn.Module) -> None:
        self.probability = 0.0
        cells = [module for module in net.modules() if isinstance(module, FixedCell)]
        edges = [edge for cell in cells for edge in cell.edges.values() if not _hands_on(edge)]
        if not edges:
            raise ValueError(
                f"drop_path is for networks of cells, and {type(net).__name__} has none with "
                "operations to drop"
            )
        for edge in edges:
            edge.register_forward_hook(self._dropped)

    def _dropped(self, edge: nn.Module, _: Any, out: Any) -> Any:
        if not edge.training or self.probability == 0.0 or not isinstance(out, Tensor):
            return out
        keep = 1.0 - self.probability
        mask = torch.bernoulli(out.new_full((len(out), *(1,) * (out.dim() - 1)), keep))
        return out / keep * mask


def _hands_on(edge: nn.Module) -> bool:
    return isinstance(edge, nn.Identity)
