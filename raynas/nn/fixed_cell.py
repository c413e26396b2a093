"""What a cell becomes once it is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raynas.nn.layout import laid_out

if TYPE_CHECKING:
    from raynas.nn.cell import Cell


class FixedCell(nn.Module):
    """What a cell becomes once it is decided."""

    def __init__(
        self,
        cell: Cell,
        edges: Mapping[str, nn.Module],
        wiring: list[list[tuple[int, str]]],
        pre: nn.Module | None,
        post: nn.Module | None,
    ) -> None:
        super().__init__()
        self.num_predecessors, self.concat_dim = cell.num_predecessors, cell.concat_dim
        self.merge_op, self.wiring = cell.merge_op, wiring
        self.pre, self.post = pre, post
        self.edges = nn.ModuleDict(edges)
        self.training = self.edges.training = cell.training  # what is inside keeps its own mode

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return the cell's output, as the cell that it was made from."""
        given, rest = split_inputs(inputs, self.num_predecessors, "cell")
        states = list(given if self.pre is None else self.pre(given))
        for node in self.wiring:
            terms = None
            for at, name in node:
                term = self.edges[name](states[at], *rest, **kwargs)
                terms = term if terms is None else terms + term
            states.append(terms)
        used = {at for node in self.wiring for at, _ in node} if self.merge_op != "all" else set()
        nodes = range(self.num_predecessors, len(states))
        merged = torch.cat(
            [torch.zeros_like(states[i]) if i in used else laid_out(states[i]) for i in nodes],
            self.concat_dim,
        )
        return merged if self.post is None else self.post(merged, list(given))


def split_inputs(inputs: Sequence[Any], count: int, where: str) -> tuple[list[Any], Sequence[Any]]:
    """Return a cell's inputs, given in a list or one by one, and what came behind them."""
    listed = bool(inputs) and isinstance(inputs[0], list | tuple)
    given, rest = (
        (list(inputs[0]), inputs[1:]) if listed else (list(inputs[:count]), inputs[count:])
    )
    if len(given) != count:
        raise ValueError(f"{where}: expected {count} inputs, got {len(given)}")
    return given, rest
