"""What a cell becomes once it is decided, and what both share in a forward pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raynas.nn.in_place import called
from raynas.nn.layout import laid_out


class FixedCell(nn.Module):
    """What a cell becomes once it is decided.

    Args:
        edges: picked operations by the name of their edge.
        wiring: for every node, the positions of its sources with the names of their edges.
        pre: applied to the list of inputs.
        post: applied to (output, list of inputs).
        num_predecessors: inputs of the cell.
        merge_op: as of the cell.
        concat_dim: of the output.
    """

    def __init__(
        self,
        edges: Mapping[str, nn.Module],
        wiring: list[list[tuple[int, str]]],
        pre: nn.Module | None,
        post: nn.Module | None,
        *,
        num_predecessors: int,
        merge_op: str,
        concat_dim: int,
    ) -> None:
        super().__init__()
        self.num_predecessors, self.concat_dim = num_predecessors, concat_dim
        self.merge_op, self.wiring = merge_op, wiring
        self.pre, self.post = pre, post
        self.edges = nn.ModuleDict(edges)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return the cell's output, as the cell that it was made from."""
        given, rest = split_inputs(inputs, self.num_predecessors, "cell")
        states = list(given if self.pre is None else self.pre(given))
        for node in self.wiring:
            terms = None
            for at, name in node:
                term = called(self.edges[name], states[at], *rest, **kwargs)
                terms = term if terms is None else terms + term
            states.append(terms)
        read = {at for node in self.wiring for at, _ in node} if self.merge_op != "all" else set()
        first = first_merged(self.merge_op, self.num_predecessors)
        merged = concatenated(states, first, read, self.concat_dim)
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


def first_merged(merge_op: str, num_predecessors: int) -> int:
    """Return the position of the first state that takes part in a cell's output."""
    return 0 if merge_op == "unread" else num_predecessors


def concatenated(states: Sequence[Any], first: int, left_out: Collection[int], dim: int) -> Tensor:
    """Return the states from ``first`` on in one tensor, zeros for those that are left out."""
    return torch.cat(
        [
            torch.zeros_like(states[at]) if at in left_out else laid_out(states[at])
            for at in range(first, len(states))
        ],
        dim,
    )
