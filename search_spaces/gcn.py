"""Cells of graph convolutions, as SGAS searches them (Li et al., 2020, arXiv:1912.00195).

A network takes one tensor per example, so that a data set is a pair of tensors. Point clouds come
as their coordinates, and the graph of nearest neighbours is built from these; graphs come as
features stacked over their adjacency matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from raynas.core.errors import nearest
from raynas.nn.cell import Cell
from raynas.nn.graph import GRAPH_OPERATORS, adjacent, nearest_neighbours, pointwise
from raynas.nn.modelspace import SPACES, ModelSpace

CANDIDATES = (
    "none",
    "skip",
    "conv1x1",
    "edge",
    "mr",
    "gat",
    "semi_gcn",
    "gin",
    "sage",
    "rel_sage",
)
Task = Literal["points", "nodes"]
TASKS: tuple[Task, ...] = get_args(Task)
COORDINATES = 3
STEM_MULTIPLIER = 3
NEIGHBOURS = 9


class Preprocess(nn.Module):
    """Brings the outputs of the two cells before to one number of channels."""

    def __init__(self, before: int, last: int, channels: int) -> None:
        super().__init__()
        self.before, self.last = pointwise(before, channels), pointwise(last, channels)

    def forward(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return both outputs, each of shape (batch, channels, nodes)."""
        return [self.before(outputs[0]), self.last(outputs[1])]


class GraphCells(nn.Module):
    """Stem, cells of one architecture, and a convolution of all their outputs.

    Differs: all cells work on the graph of the input; the authors' code builds a new one from every
    cell's features, of ever more distant neighbours.

    Args:
        in_channels: features of a node.
        out_channels: of the output.
        channels: inside the cells.
        cells: how many.
        steps: intermediate nodes of a cell.
        candidates: names of the operations to choose from.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int,
        cells: int,
        steps: int,
        candidates: Sequence[str],
    ) -> None:
        super().__init__()
        stem = STEM_MULTIPLIER * channels
        self.stem = nn.Sequential(nn.Conv1d(in_channels, stem, 1, bias=False), nn.BatchNorm1d(stem))
        self.cells = nn.ModuleList()
        widths = [stem, stem]
        for _ in range(cells):
            cell = Cell(
                lambda *_: {name: GRAPH_OPERATORS[name](channels) for name in candidates},
                steps,
                num_ops_per_node=2,
                num_predecessors=2,
                preprocessor=Preprocess(widths[-2], widths[-1], channels),
                label="cell",
            )
            self.cells.append(cell)
            widths.append(steps * channels)
        self.fusion = pointwise(sum(widths[1:]), out_channels)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return node features of shape (batch, out_channels, nodes)."""
        x = self.stem(x)
        outputs = [x, x]
        for cell in self.cells:
            outputs.append(cell(outputs[-2], outputs[-1], index))
        fused: Tensor = self.fusion(torch.cat(outputs[1:], 1))
        return fused


def head(channels: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Return a classifier with one hidden layer; differs: the authors' has two."""
    return nn.Sequential(
        nn.Conv1d(channels, hidden, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv1d(hidden, num_classes, 1),
    )


class CloudNet(nn.Module):
    """Classifies point clouds of shape (batch, in_channels, points).

    Args:
        cells: extracts node features.
        classifier: of the maximum over the points, stacked over the mean.
        neighbours: nearest points, the point itself among them, by the first three channels.
    """

    def __init__(self, cells: GraphCells, classifier: nn.Module, neighbours: int) -> None:
        super().__init__()
        self.cells, self.classifier, self.neighbours = cells, classifier, neighbours

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        _check_input(x)
        x = self.cells(x, nearest_neighbours(x[:, :COORDINATES], self.neighbours - 1))
        pooled = torch.cat([x.amax(2, keepdim=True), x.mean(2, keepdim=True)], 1)
        logits: Tensor = self.classifier(pooled).squeeze(2)
        return logits


class NodeNet(nn.Module):
    """Classifies the nodes of graphs of shape (batch, features + nodes, nodes).

    Args:
        cells: extracts node features.
        classifier: of each node's.
        nodes: of each graph; the last so many rows are its adjacency matrix, in which an entry
            (i, j) other than 0 makes j a neighbour of i.
    """

    def __init__(self, cells: GraphCells, classifier: nn.Module, nodes: int) -> None:
        super().__init__()
        self.cells, self.classifier, self.nodes = cells, classifier, nodes

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes, nodes)."""
        _check_input(x, self.nodes)
        features, adjacency = x[:, : -self.nodes], x[:, -self.nodes :]
        logits: Tensor = self.classifier(self.cells(features, adjacent(adjacency)))
        return logits


def _check_input(x: Tensor, nodes: int | None = None) -> None:
    if x.dim() != 3 or x.shape[2] != (nodes or x.shape[2]):
        count = "nodes" if nodes is None else str(nodes)
        raise ValueError(
            f"gcn: expected inputs of shape (batch, in_channels, {count}), got {tuple(x.shape)}"
        )


def network(
    extract: Callable[[], GraphCells],
    *,
    nodes: int | None,
    neighbours: int,
    hidden: int,
    num_classes: int,
    dropout: float,
) -> nn.Module:
    """Return a classifier of nodes, or of whole clouds if the number of nodes is None."""
    cells = extract()
    if nodes is None:
        return CloudNet(cells, head(2 * hidden, hidden, num_classes, dropout), neighbours)
    return NodeNet(cells, head(hidden, hidden, num_classes, dropout), nodes)


@SPACES.register("gcn")
def gcn(
    *,
    task: Task = "points",
    num_classes: int = 10,
    in_channels: int = 3,
    nodes: int = 64,
    channels: int = 32,
    cells: int = 2,
    steps: int = 3,
    neighbours: int | None = None,
    embedding: int = 256,
    dropout: float = 0.5,
    candidates: Sequence[str] = CANDIDATES,
) -> ModelSpace:
    """SGAS's graph networks: one cell, whose nodes pick two sources and an operation for each.

    Defaults are the authors' for ModelNet40, where clouds have 1024 points, however, and the
    embedding 1024 channels. For the nodes of PPI they take one cell.

    Args:
        task: classify whole point clouds, inputs (in_channels, nodes) and logits (num_classes), or
            the nodes of graphs, inputs (in_channels, nodes) and logits (num_classes, nodes).
        num_classes: length of the output.
        in_channels: rows of an example: for ``points`` three coordinates, then any features; for
            ``nodes`` the features, then the adjacency matrix with as many rows as there are nodes.
        nodes: points of a cloud, or nodes of a graph.
        channels: inside the cells.
        cells: how many; all have the same architecture.
        steps: intermediate nodes of a cell.
        neighbours: nearest points of each point, itself among them as in the authors' code, so that
            9, which None takes, links it to 8 others. For ``points`` only.
        embedding: channels after the last cell.
        dropout: probability before the classifier's last layer.
        candidates: names of the graph operators to choose from.

    Raises:
        ValueError: an unknown task, a size that is not positive, ``neighbours`` for ``nodes``, or
            no row besides the adjacency matrix.
    """
    if task not in TASKS:
        raise ValueError(f"gcn: no task is named {task!r}; {nearest(str(task), TASKS)}")
    sizes = {"in_channels": in_channels, "nodes": nodes, "channels": channels, "cells": cells}
    sizes |= {
        "steps": steps,
        "neighbours": NEIGHBOURS if neighbours is None else neighbours,
        "embedding": embedding,
    }
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"gcn: {name} must be positive, got {value}")
    if task == "nodes":
        _check_nodes(in_channels, nodes, neighbours)
    extract = partial(
        GraphCells,
        in_channels - nodes if task == "nodes" else in_channels,
        embedding,
        channels=channels,
        cells=cells,
        steps=steps,
        candidates=tuple(candidates),
    )
    factory = partial(
        network,
        extract,
        nodes=nodes if task == "nodes" else None,
        neighbours=sizes["neighbours"],
        hidden=embedding,
        num_classes=num_classes,
        dropout=dropout,
    )
    return ModelSpace(factory, input_shape=(in_channels, nodes), name="gcn")


def _check_nodes(in_channels: int, nodes: int, neighbours: int | None) -> None:
    if neighbours is not None:
        raise ValueError(
            "gcn: task 'nodes' takes its links from the adjacency matrix, got "
            f"neighbours={neighbours}"
        )
    if in_channels <= nodes:
        raise ValueError(
            "gcn: an example of task 'nodes' has the features' rows over those of the adjacency "
            f"matrix, so in_channels must exceed nodes, got {in_channels} and {nodes}"
        )
