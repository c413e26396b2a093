"""Graph operations by hand, by loops and by symmetry; the space of SGAS's graph networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.errors import UnknownName
from raynas.costs import cost_of
from raynas.nn import LayerChoice, activate, freeze
from raynas.nn.graph import GRAPH_OPERATORS, adjacent, nearest_neighbours
from raynas.nn.graph.convolutions import (
    EdgeConv,
    GraphAttention,
    GraphConv,
    GraphIsomorphism,
    GraphSAGE,
    MaxRelativeConv,
)
from raynas.nn.graph.operators import GraphOperation
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.mutable import mutables
from raynas.search_spaces.gcn import CANDIDATES, CloudNet, gcn

LINKED = ("edge", "mr", "gat", "semi_gcn", "gin", "sage", "rel_sage")
LEARNING = {
    "cell/n0/from": ("s0", "s1"),
    "cell/n0/op/s0": "edge",
    "cell/n0/op/s1": "gin",
    "cell/n1/from": ("s1", "n0"),
    "cell/n1/op/s1": "rel_sage",
    "cell/n1/op/n0": "semi_gcn",
    "cell/n2/from": ("s0", "n1"),
    "cell/n2/op/s0": "mr",
    "cell/n2/op/n1": "gat",
}
RelativeSAGE = partial(GraphSAGE, relative=True)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def graph(batch: int, nodes: int, seed: int = 0, share: float = 0.3) -> Tensor:
    """A directed adjacency matrix whose node 0 has no neighbours."""
    rng = torch.Generator().manual_seed(seed)
    linked = (torch.rand(batch, nodes, nodes, generator=rng) < share).double()
    linked[:, 0] = 0
    return linked


def settled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give a net float64 weights and statistics that matter."""
    rng = torch.Generator().manual_seed(seed)
    net.double()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(generator=rng)
                module.running_var.uniform_(0.5, 2, generator=rng)
                module.weight.normal_(generator=rng)
                module.bias.normal_(generator=rng)
    return net


def operation(name: str, channels: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return settled(GRAPH_OPERATORS[name](channels))


# Node 0 reads 1 and 2, node 1 reads 0, node 2 reads nobody; one channel, 1, 3 and -2.
TRIO = torch.tensor([[[1, 2], [0, 3], [3, 3]]])
TRIO_X = torch.tensor([[[1.0, 3.0, -2.0]]], dtype=torch.float64)


def mean_by(weights: list[float], values: list[float]) -> float:
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@pytest.mark.parametrize(
    ("conv", "weights", "expected"),
    [
        # own 3x: 3, 9, -6; local differences: 4 and -6, -4, none; 0 for the node itself
        (EdgeConv, {"own.weight": 3, "local.weight": 2}, [3 + 4, 9 + 0, 0]),
        # maxima of differences: 2, -2, none
        (MaxRelativeConv, {"linear.weight": [1, 10]}, [1 + 20, 3 - 20, -2]),
        # z is 2, 6, -4; r is 1, 3, -2; s is -0.5, -1.5, 1
        (
            GraphAttention,
            {"linear.weight": 2, "attention.weight": [0.5, -0.25]},
            [
                mean_by([math.exp(0.5), math.exp(0.2 * -0.5), math.exp(2)], [2, 6, -4]),
                mean_by([math.exp(1.5), math.exp(2.5)], [6, 2]),
                -4,
            ],
        ),
        # z is 2, 6, -4; degrees with the nodes themselves are 3, 2, 1
        (
            GraphConv,
            {"linear.weight": 2},
            [2 / 3 + 6 / math.sqrt(6) - 4 / math.sqrt(3), 6 / 2 + 2 / math.sqrt(6), -4],
        ),
        # x plus neighbours: 2, 4, -2
        (GraphIsomorphism, {"linear.weight": 2}, [4, 8, -4]),
        # -x cut at 0 is 0, 0, 2
        (GraphSAGE, {"pool.weight": -1, "linear.weight": [1, 10]}, [1 + 20, 3 + 0, -2]),
        # the negative differences: -2 and 3, 2, none
        (RelativeSAGE, {"pool.weight": -1, "linear.weight": [1, 10]}, [1 + 30, 3 + 20, -2]),
    ],
    ids=LINKED,
)
def test_convolutions_on_three_nodes_by_hand(
    conv: Callable[[int, int], nn.Module], weights: Mapping[str, Any], expected: list[float]
) -> None:
    layer = conv(1, 1).double()
    given = {k: torch.tensor(v, dtype=torch.float64) for k, v in weights.items()}
    state = layer.state_dict()
    assert given.keys() == state.keys()
    layer.load_state_dict({k: v.reshape(state[k].shape) for k, v in given.items()})
    out = layer(TRIO_X, TRIO)
    torch.testing.assert_close(out, torch.tensor([[expected]], dtype=torch.float64))


def test_operations_without_links() -> None:
    assert torch.equal(operation("none", 1)(TRIO_X, TRIO), torch.zeros_like(TRIO_X))
    assert torch.equal(operation("skip", 1)(TRIO_X, TRIO), TRIO_X)
    conv = operation("conv1x1", 1)
    weight, bn = conv.get_parameter("layers.conv.weight"), conv.get_submodule("layers.bn")
    assert torch.equal(conv.eval()(TRIO_X, TRIO), bn(weight * TRIO_X).relu())


@pytest.mark.parametrize("name", LINKED)
def test_a_linked_operation_is_its_convolution_with_batchnorm_and_relu(name: str) -> None:
    layer, x, index = operation(name).eval(), rows(2, 5, 7), adjacent(graph(2, 7))
    assert isinstance(layer, GraphOperation)
    out, conv = layer(x, index), layer.conv(x, index)
    torch.testing.assert_close(out, layer.bn(conv).relu())
    assert out.shape == x.shape
    assert conv.shape == x.shape


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("conv1x1", 32 * 32 + 64),
        ("edge", 2 * 32 * 32 + 64),
        ("mr", 2 * 32 * 32 + 64),
        ("gat", 32 * 32 + 2 * 32 + 64),
        ("semi_gcn", 32 * 32 + 64),
        ("gin", 32 * 32 + 64),
        ("sage", 3 * 32 * 32 + 64),
        ("rel_sage", 3 * 32 * 32 + 64),
    ],
)
def test_operations_have_as_many_weights_as_in_the_authors_code(name: str, params: int) -> None:
    """At 32 channels: 1,088, 2,112 and 1,152; GraphSAGE's 3,072 and those of its BatchNorm here."""
    assert sum(p.numel() for p in GRAPH_OPERATORS[name](32).parameters()) == params


def test_a_point_is_one_of_its_own_neighbours() -> None:
    """Of nine neighbours eight are others: points on a line see four to either side."""
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            seen.append(index)
            return x

    cells: Any = Watched()
    net = CloudNet(cells, nn.Conv1d(6, 2, 1), neighbours=9)
    line = torch.stack([torch.arange(20.0), torch.zeros(20), torch.zeros(20)])
    net(line.unsqueeze(0))
    assert seen[0][0, 10].tolist() == [6, 7, 8, 9, 11, 12, 13, 14]


def looped(conv: Any, x: Tensor, adjacency: Tensor) -> Tensor:
    """A convolution as its paper writes it, node by node and neighbour by neighbour; x: (N, C)."""
    out = []
    for i, x_i in enumerate(x):
        js = [j for j in range(len(x)) if adjacency[i, j] != 0 and j != i]
        out.append(node_by(conv, x, x_i, i, js, adjacency))
    return torch.stack(out)


def node_by(conv: Any, x: Tensor, x_i: Tensor, i: int, js: list[int], links: Tensor) -> Tensor:
    def linear(layer: Any, given: Tensor) -> Tensor:
        out: Tensor = layer.weight[:, :, 0] @ given
        return out if layer.bias is None else out + layer.bias

    def most(messages: list[Tensor], width: int) -> Tensor:
        return torch.stack(messages).amax(0) if messages else torch.zeros(width).to(x)

    with_i = [i, *js]
    match conv:
        case EdgeConv():
            own = linear(conv.own, x_i)
            return most([(linear(conv.local, x[j] - x_i) + own).relu() for j in with_i], len(own))
        case MaxRelativeConv():
            relative = most([x[j] - x_i for j in js], len(x_i))
            return linear(conv.linear, torch.cat([x_i, relative]))
        case GraphAttention():
            z = torch.stack([linear(conv.linear, one) for one in x])
            r, s = conv.attention.weight[:, :, 0]
            scores = [functional.leaky_relu(r @ z[i] + s @ z[j], 0.2) for j in with_i]
            return torch.stack(scores).softmax(0) @ z[with_i]
        case GraphConv():
            degrees = (links - torch.diag(links.diag()) + torch.eye(len(x))).sum(1)
            terms = [x[j] / (degrees[i] * degrees[j]).sqrt() for j in with_i]
            return linear(conv.linear, torch.stack(terms).sum(0))
        case GraphIsomorphism():
            return linear(conv.linear, torch.stack([x[j] for j in with_i]).sum(0))
        case GraphSAGE():
            given = [x[j] - x_i if conv.relative else x[j] for j in js]
            pooled = most([linear(conv.pool, one).relu() for one in given], conv.pool.out_channels)
            return linear(conv.linear, torch.cat([x_i, pooled]))
    raise AssertionError(conv)


@pytest.mark.parametrize(
    "conv",
    [
        EdgeConv,
        MaxRelativeConv,
        GraphAttention,
        GraphConv,
        GraphIsomorphism,
        GraphSAGE,
        RelativeSAGE,
    ],
    ids=LINKED,
)
def test_convolutions_are_their_papers_formulas(conv: Callable[[int, int], nn.Module]) -> None:
    torch.manual_seed(0)
    layer, x, links = settled(conv(4, 6)), rows(2, 4, 9), graph(2, 9)
    expected = [looped(layer, one.T, link).T for one, link in zip(x, links, strict=True)]
    torch.testing.assert_close(layer(x, adjacent(links)), torch.stack(expected))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CANDIDATES)
def test_an_operation_commutes_with_any_renumbering(name: str, training: bool) -> None:
    layer, x, links = operation(name).train(training), rows(3, 5, 12), graph(3, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    out = layer(x, adjacent(links))
    renumbered = layer(x[:, :, order], adjacent(links[:, order][:, :, order]))
    torch.testing.assert_close(renumbered, out[:, :, order], rtol=1e-11, atol=1e-11)
    assert (out.std() > 0.01) == (name != "none")


@pytest.mark.parametrize("name", CANDIDATES)
def test_only_linked_operations_look_at_the_links(name: str) -> None:
    layer, x = operation(name).eval(), rows(1, 5, 12)
    outs = [layer(x, adjacent(graph(1, 12, seed=seed))) for seed in (0, 1)]
    assert torch.equal(*outs) == (name not in LINKED)


@pytest.mark.parametrize("name", LINKED)
def test_filling_rows_changes_nothing(name: str) -> None:
    layer, x, index = operation(name).eval(), rows(2, 5, 8), adjacent(graph(2, 8))
    nobody = torch.full((2, 8, 3), 8)
    torch.testing.assert_close(layer(x, torch.cat([nobody, index], -1)), layer(x, index))


@pytest.mark.parametrize("links", [torch.zeros(2, 6, 6), graph(2, 6)], ids=["all", "some"])
@pytest.mark.parametrize("name", CANDIDATES[1:])
def test_nodes_without_neighbours_give_finite_results_and_gradients(
    name: str, links: Tensor
) -> None:
    layer, x = operation(name), rows(2, 5, 6).requires_grad_()
    out = layer(x, adjacent(links))
    (out * rows(2, 5, 6, seed=1)).sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None
    for tensor in (x, *layer.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("name", LINKED)
def test_gradients_of_an_operation(name: str) -> None:
    layer, index = operation(name, 2).eval(), adjacent(graph(1, 4, share=0.5))
    x = rows(1, 2, 4, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, index), (x,))


def nearest_by_sorting(points: Tensor, k: int) -> list[list[int]]:
    """The first k of all others, sorted by exact squared distance, then by number."""
    found = []
    for i, p in enumerate(points.T.tolist()):
        others = [
            (sum((a - b) ** 2 for a, b in zip(p, q, strict=True)), j)
            for j, q in enumerate(points.T.tolist())
            if j != i
        ]
        found.append(sorted(j for _, j in sorted(others)[:k]))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 4, 9, 20])
def test_the_nearest_are_found_and_ties_go_to_the_first(k: int, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(k)
    grid = torch.randint(0, 3, (4, 3, 20), generator=rng).to(dtype)  # 27 places: twins and ties
    found = nearest_neighbours(grid, k)
    assert found.tolist() == [nearest_by_sorting(points, min(k, 19)) for points in grid]
    spread = torch.randn(4, 3, 20, generator=rng).to(dtype)  # no ties
    expected = [nearest_by_sorting(points, min(k, 19)) for points in spread]
    assert nearest_neighbours(spread, k).tolist() == expected
    alone = torch.cat([nearest_neighbours(points[None], k) for points in grid])
    assert torch.equal(alone, found)


def test_a_lone_point_has_no_neighbours() -> None:
    assert nearest_neighbours(torch.zeros(2, 3, 1), 9).tolist() == [[[1]], [[1]]]


def test_the_index_of_a_graph() -> None:
    links = torch.tensor([[1, 1, 0, 0], [0.5, 0, -2, 1], [0, 0, 1, 0], [1, 0, 0, 0]])
    assert adjacent(links[None]).tolist() == [[[1, 4, 4], [0, 2, 3], [4, 4, 4], [0, 4, 4]]]
    assert adjacent(torch.eye(2)[None]).tolist() == [[[2], [2]]]
    assert adjacent(torch.ones(1, 2, 2)).tolist() == [[[1], [0]]]
    assert links[0, 0] == 1  # not written to


def points_space(**options: Any) -> ModelSpace:
    return gcn(**{"num_classes": 2, "nodes": 24, "channels": 4, "embedding": 8, **options})


def nodes_space(nodes: int = 20, features: int = 3, **options: Any) -> ModelSpace:
    sizes = {"nodes": nodes, "in_channels": features + nodes}
    return points_space(task="nodes", **sizes, **options)


def test_the_space_by_hand() -> None:
    space = gcn().arch_space
    assert space.size() == (1 * 9**2) * (3 * 9**2) * (6 * 9**2)
    assert points_space(steps=1).arch_space.size() == 81
    sources = ("s0", "s1", "n0", "n1")
    assert [(d.label, d.options) for d in space.choices] == [
        (f"cell/n{i}/from", sources[: 2 + i]) for i in range(3)
    ]
    assert space.decisions["cell/n2/op/n0"].options == CANDIDATES[1:]  # all but none


def clouds(count: int, nodes: int = 24) -> Tensor:
    return rows(count, 3, nodes)


def graphs(count: int, nodes: int = 20, features: int = 3) -> Tensor:
    return torch.cat([rows(count, features, nodes), graph(count, nodes)], 1)


@pytest.mark.parametrize(
    ("space", "x", "shape"),
    [(points_space(), clouds(3), (3, 2)), (nodes_space(), graphs(3), (3, 2, 20))],
    ids=["points", "nodes"],
)
def test_frozen_networks_compute_what_the_supernet_does(
    space: ModelSpace, x: Tensor, shape: tuple[int, ...]
) -> None:
    supernet, rng = settled(space.supernet()).eval(), np.random.default_rng(0)
    assert space.input_shape == x.shape[1:]
    outs = []
    for _ in range(6):
        arch = space.arch_space.sample(rng)
        activate(supernet, arch)
        net = freeze(supernet, arch)
        assert not list(mutables(net))
        outs.append(net(x))
        assert outs[-1].shape == shape
        assert torch.equal(outs[-1], supernet(x))
    assert all(not torch.equal(a, b) for a, b in pairwise(outs))


def test_a_mixture_runs_every_candidate() -> None:
    supernet, seen = points_space(cells=1).supernet(), []

    def mix(layers: Any, x: Tensor, index: Tensor) -> Tensor:
        seen.append(len(layers))
        return torch.stack([layer(x, index) for layer in layers]).mean(0)

    for edge in mutables(supernet):
        if isinstance(edge, LayerChoice):
            edge.route = mix
    assert supernet(clouds(2).float()).shape == (2, 2)
    assert seen == [10] * (2 + 3 + 4)


def test_all_cells_have_one_architecture() -> None:
    space = points_space(cells=3)
    arch = space.arch_space.sample(np.random.default_rng(0))
    net = space.build(arch)
    assert isinstance(net, CloudNet)
    kinds = [
        [type(op) for op in cell.get_submodule("edges").children()] for cell in net.cells.cells
    ]
    assert len(kinds) == 3
    assert kinds[0] == kinds[1] == kinds[2]
    assert len(kinds[0]) == 6


def test_the_order_of_points_does_not_matter() -> None:
    space, x = points_space(), clouds(2)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        arch = space.arch_space.sample(np.random.default_rng(seed))
        net = settled(space.build(arch)).eval()
        torch.testing.assert_close(net(x[:, :, order]), net(x), rtol=1e-10, atol=1e-10)


def test_renumbering_nodes_renumbers_the_logits() -> None:
    space, x = nodes_space(), graphs(2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    renumbered = torch.cat([x[:, :3, order], x[:, 3:][:, order][:, :, order]], 1)
    for seed in range(3):
        arch = space.arch_space.sample(np.random.default_rng(seed))
        net = settled(space.build(arch)).eval()
        torch.testing.assert_close(net(renumbered), net(x)[..., order], rtol=1e-10, atol=1e-10)


def test_neighbours_are_found_by_coordinates_alone() -> None:
    space = points_space(in_channels=5, neighbours=4)
    net = settled(space.build(space.arch_space.sample(np.random.default_rng(0))))
    assert isinstance(net, CloudNet)
    given: list[Tensor] = []
    net.cells.register_forward_pre_hook(lambda _, args: given.append(args[1]))
    x = rows(2, 5, 24)
    net(x)
    assert torch.equal(given[0], nearest_neighbours(x[:, :3], 3))
    default = points_space().supernet()
    assert isinstance(default, CloudNet)
    assert default.neighbours == 9


def test_costs_do_not_depend_on_the_links() -> None:
    space = nodes_space()
    net = space.build(space.arch_space.sample(np.random.default_rng(0)))
    empty, linked = (cost_of(net, x) for x in (space.example_input(), graphs(1).float()))
    assert (empty.params, empty.macs) == (linked.params, linked.macs)
    assert empty.macs > 0


def solids(count: int, points: int) -> tuple[Tensor, Tensor]:
    """Points on unit spheres (0) and on cubes of the same mean squared radius (1)."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, points, generator=rng)
    classes = torch.arange(count) % 2
    cube = torch.rand(x.shape, generator=rng) * 2 - 1
    face = torch.randint(0, 3, (count, 1, points), generator=rng)
    cube = cube.scatter(1, face, cube.gather(1, face).sign()) / math.sqrt(5 / 3)
    return torch.where(classes.view(-1, 1, 1) == 1, cube, functional.normalize(x, dim=1)), classes


def communities(count: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Geometric graphs of two places in the plane, linked where near; features tell nothing."""
    rng = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 2, (count, nodes), generator=rng)
    places = (
        torch.randn(count, nodes, 2, generator=rng) * torch.tensor([1.0, 0.3])[classes][..., None]
    )
    links = (torch.cdist(places, places) < 0.4).float()
    return torch.cat([torch.ones(count, 2, nodes), links], 1), classes


@pytest.mark.parametrize(
    ("space", "data"),
    [
        (points_space(nodes=48, channels=8, embedding=16, dropout=0.0), solids(32, 48)),
        (nodes_space(24, 2, channels=8, embedding=16, dropout=0.0), communities(16, 24)),
    ],
    ids=["points", "nodes"],
)
def test_steps_of_sgd_lower_the_loss(space: ModelSpace, data: tuple[Tensor, Tensor]) -> None:
    net, (x, y) = space.supernet(), data
    activate(net, LEARNING)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(25):
        loss = functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "point"}, ValueError, "'point'; did you mean 'points'"),
        ({"cells": 0}, ValueError, "cells must be positive, got 0"),
        ({"neighbours": 0}, ValueError, "neighbours must be positive, got 0"),
        ({"task": "nodes", "in_channels": 24}, ValueError, "must exceed nodes, got 24 and 24"),
        (
            {"task": "nodes", "in_channels": 30, "neighbours": 9},
            ValueError,
            "adjacency matrix, got neighbours=9",
        ),
        ({"candidates": ("edges",)}, UnknownName, "'edges'; did you mean 'edge'"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        points_space(**options).supernet()


def test_inputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(batch, in_channels, nodes\), got \(2, 3, 8, 8\)"):
        points_space().supernet()(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"\(batch, in_channels, 20\), got \(2, 23, 19\)"):
        nodes_space().supernet()(torch.zeros(2, 23, 19))


def test_the_names_of_the_authors_code_are_known() -> None:
    theirs = ("skip_connect", "conv_1x1", "edge_conv", "mr_conv", "res_sage")
    ours = ("skip", "conv1x1", "edge", "mr", "rel_sage")
    assert tuple(GRAPH_OPERATORS.name_of(name) for name in theirs) == ours
    assert set(GRAPH_OPERATORS) == set(CANDIDATES)
    assert SPACES["gcn"] is gcn
