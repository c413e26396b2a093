"""Who is whose neighbour: one tensor for clouds and for graphs, and sums and maxima over it.

An ``index`` of shape (batch, nodes, neighbours) holds, for every node, the numbers of its
neighbours; a row that has fewer is filled with the number of nodes, which stands for nobody. A node
is never its own neighbour: operations that need the node itself add it. The order within a row and
the length of its filling change no result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def nearest_neighbours(points: Tensor, k: int) -> Tensor:
    """Return the index of the ``k`` nearest other points; of equally near ones, the first.

    Args:
        points: shape (batch, coordinates, nodes).
        k: neighbours per point; all others if there are fewer.
    """
    batch, _, nodes = points.shape
    k = min(k, nodes - 1)
    if k < 1:
        return torch.full((batch, nodes, 1), nodes, device=points.device)
    rows = points.transpose(1, 2)
    # by differences: matrix products would round equal distances apart, differently per batch size
    distance = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    distance.diagonal(dim1=1, dim2=2).fill_(math.inf)
    near = distance.topk(k + 1, largest=False)
    if (near.values[..., k] > near.values[..., k - 1]).all():
        return near.indices[..., :k].sort().values
    return _first_of_equals(distance, near.values[..., k - 1 : k], k)


def _first_of_equals(distance: Tensor, furthest: Tensor, k: int) -> Tensor:
    """Return the ``k`` nearest, of those at the furthest distance the first."""
    nearer, equal = distance < furthest, distance == furthest
    room = k - nearer.sum(-1, keepdim=True)
    chosen = nearer | (equal & (equal.cumsum(-1, dtype=torch.int32) <= room))
    return chosen.float().topk(k).indices.sort().values


@torch.no_grad()
def adjacent(adjacency: Tensor) -> Tensor:
    """Return the index of a graph: j is a neighbour of i where entry (i, j) is not 0.

    Args:
        adjacency: shape (batch, nodes, nodes); its diagonal is ignored.
    """
    nodes = adjacency.shape[-1]
    linked = adjacency != 0
    linked.diagonal(dim1=1, dim2=2).fill_(False)
    width = max(1, int(linked.sum(-1).max()))
    numbers = torch.arange(nodes, device=adjacency.device)
    return torch.where(linked, numbers, nodes).topk(min(width, nodes), largest=False).values


def degree(index: Tensor) -> Tensor:
    """Return how many neighbours each node has, shape (batch, nodes)."""
    return (index < index.shape[1]).sum(-1)


def gathered(x: Tensor, index: Tensor, nobody: float) -> Tensor:
    """Return the neighbours' features, shape (batch, nodes, neighbours, channels).

    Args:
        x: shape (batch, channels, nodes).
        index: shape (batch, nodes, neighbours).
        nobody: what stands for a neighbour that is not there.
    """
    batch, channels, nodes = x.shape
    rows = functional.pad(x, (0, 1), value=nobody).transpose(1, 2).reshape(-1, channels)
    starts = torch.arange(batch, device=x.device).view(-1, 1, 1) * (nodes + 1)
    return rows.index_select(0, (index + starts).flatten()).view(*index.shape, channels)


def neighbour_max(x: Tensor, index: Tensor) -> Tensor:
    """Return the channels' maxima over the neighbours, minus infinity for a node without any."""
    return gathered(x, index, -math.inf).amax(2).transpose(1, 2)


def neighbour_sum(x: Tensor, index: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sums over the neighbours, 0 for a node without any.

    Args:
        x: shape (batch, channels, nodes).
        index: shape (batch, nodes, neighbours).
        weights: of the neighbours, shape as the index; None weighs all by 1.
    """
    terms = gathered(x, index, 0.0)
    if weights is not None:
        terms = terms * weights.unsqueeze(-1)
    return terms.sum(2).transpose(1, 2)
