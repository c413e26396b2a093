"""NAS-Bench-201 against the benchmark's closed forms, and its isomorphism by full enumeration."""

from __future__ import annotations

import math
import pickle
from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raynas.core.arch import Arch
from raynas.core.errors import InvalidArch
from raynas.costs import cost_of
from raynas.nn import activate, freeze
from raynas.nn.modelspace import SPACES
from raynas.search_spaces.nas_bench_201 import (
    LABELS,
    OPERATIONS,
    NASBench201,
    canonical,
    from_arch_str,
    nas_bench_201,
    to_arch_str,
    unique_str,
)

NONE, SKIP, CONV1, CONV3, POOL = OPERATIONS
ALL = list(product(OPERATIONS, repeat=6))


def arch_of(*operations: str) -> Arch:
    return Arch(dict(zip(LABELS, operations, strict=True)))


def operations_of(arch: Arch) -> tuple[str, ...]:
    return tuple(str(arch[label]) for label in LABELS)


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_space_is_six_edges_of_five_operations() -> None:
    model = nas_bench_201(channels=2, cells=2)
    space = model.arch_space
    assert space.labels == LABELS
    assert LABELS == ("edge_1_0", "edge_2_0", "edge_2_1", "edge_3_0", "edge_3_1", "edge_3_2")
    assert {d.options for d in space.choices} == {OPERATIONS}
    assert set(OPERATIONS) == {
        "none",
        "skip_connect",
        "nor_conv_1x1",
        "nor_conv_3x3",
        "avg_pool_3x3",
    }
    assert space.size() == 5**6 == len(ALL) == 15_625
    assert [operations_of(arch) for arch in space] == ALL


@pytest.mark.parametrize(
    "operations",
    [
        (NONE,) * 6,
        (CONV3,) * 6,
        (CONV1,) * 6,
        (CONV3, CONV3, CONV3, SKIP, CONV3, CONV3),
        (POOL, CONV1, SKIP, CONV1, NONE, CONV3),
    ],
)
def test_parameters_and_macs_follow_the_benchmark_s_closed_form(
    operations: tuple[str, ...],
) -> None:
    model = nas_bench_201()
    with torch.device("meta"):
        net = freeze(model.factory(), arch_of(*operations))
    large, little = operations.count(CONV3), operations.count(CONV1)
    params = 73_306 + 243_040 * large + 28_000 * little
    assert sum(p.numel() for p in net.parameters()) == params
    # 5 cells of 3 stages; a stage's convolutions cost as much as those of the one before
    one = 5 * 3 * 16 * 16 * 32 * 32
    stem, reduction = 3 * 9 * 16 * 32 * 32, (9 * 16 + 9 * 32 + 16) * 32 * 16 * 16
    macs = stem + 2 * reduction + 640 + one * (9 * large + little)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(model.example_input().to("meta"))
    assert counter.get_total_flops() / 2 == macs
    cost = cost_of(net, model.example_input().to("meta"))
    assert (cost.params, cost.macs) == (params, macs)


def by_hand(net: NASBench201, arch: Arch, x: Tensor) -> Tensor:
    """Run an architecture with the supernet's layers, without its cells' own forward."""
    x = net.stem(x)
    block: Any
    for name, block in net.blocks.items():
        if name.startswith("reduce"):
            x = block.shortcut(x) + block.second(block.first(x))
            continue
        nodes = [x]
        for target in (1, 2, 3):
            labels = [f"edge_{target}_{source}" for source in range(target)]
            layers = [block.edges[label].candidates[arch[label]] for label in labels]
            terms = [layer(node) for layer, node in zip(layers, nodes, strict=True)]
            nodes.append(torch.stack(terms).sum(0))
        x = nodes[3]
    logits: Tensor = net.classifier(net.last(x).mean((2, 3)))
    return logits


@pytest.mark.parametrize("seed", range(4))
def test_a_net_computes_its_cell(seed: int) -> None:
    model = nas_bench_201(channels=4, cells=2, resolution=8)
    net = model.supernet().double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(seed))
            nn.init.normal_(module.bias, generator=torch.Generator().manual_seed(seed + 1))
    assert isinstance(net, NASBench201)
    assert list(net.blocks) == [
        *("stage1_cell1", "stage1_cell2", "reduce2"),
        *("stage2_cell1", "stage2_cell2", "reduce3"),
        *("stage3_cell1", "stage3_cell2"),
    ]
    arch, x = model.arch_space.sample(np.random.default_rng(seed)), rows(2, 3, 8, 8)
    activate(net, arch)
    torch.testing.assert_close(net(x), by_hand(net, arch, x))
    assert torch.equal(freeze(net, arch)(x), net(x))


def test_gradients_reach_only_what_is_active() -> None:
    net = nas_bench_201(channels=2, cells=2, resolution=8).supernet()
    assert isinstance(net, NASBench201)
    arch = arch_of(CONV3, CONV1, SKIP, NONE, POOL, CONV3)
    activate(net, arch)
    net(rows(4, 3, 8, 8).float()).square().sum().backward()
    idle = {
        parameter
        for block in net.blocks.values()
        for label, edge in getattr(block, "edges", {}).items()
        for name, layer in edge.candidates.items()
        if name != arch[label]
        for parameter in layer.parameters()
    }
    assert idle
    assert {p for p in net.parameters() if p.grad is None} == idle


@pytest.mark.parametrize("resolution", [16, 8, 7, 1])
def test_other_inputs_work(resolution: int) -> None:
    model = nas_bench_201(channels=3, cells=1, in_channels=1, resolution=resolution, num_classes=4)
    assert model.input_shape == (1, resolution, resolution)
    net, x = model.supernet().eval(), rows(2, 1, resolution, resolution).float()
    for operations in [(NONE,) * 6, (SKIP,) * 6, (POOL, CONV3, CONV1, SKIP, NONE, POOL)]:
        activate(net, arch_of(*operations))
        out = net(x)
        assert out.shape == (2, 4)
        assert out.isfinite().all()


def test_affine_false_leaves_the_weights_of_stem_and_head_alone() -> None:
    net = nas_bench_201(channels=2, cells=1, affine=False).supernet()
    affine = [n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and m.affine]
    assert affine == ["stem.bn", "last.bn"]


@pytest.mark.parametrize("option", ["channels", "cells", "in_channels", "resolution"])
def test_sizes_must_be_positive(option: str) -> None:
    with pytest.raises(ValueError, match=f"nas_bench_201: {option} must be positive, got 0"):
        SPACES["nas_bench_201"](**{option: 0})


def test_the_benchmark_counts_6466_classes() -> None:
    classes: dict[Arch, set[str]] = defaultdict(set)
    place = {operations: at for at, operations in enumerate(ALL)}
    for operations in ALL:
        first = canonical(arch_of(*operations))
        classes[first].add(unique_str(operations))
        assert place[operations_of(first)] <= place[operations]
    assert len(classes) == 6466
    assert all(len(texts) == 1 for texts in classes.values())
    assert all(canonical(first) == first for first in classes)


def value(operations: tuple[str, ...]) -> float:
    """Run a cell on a number, with functions of 0 at 0 that have nothing else in common."""
    functions = {
        NONE: lambda _: 0.0,
        SKIP: lambda x: x,
        CONV1: math.sinh,
        CONV3: lambda x: math.exp(x / 3) - 1,
        POOL: math.atan,
    }
    nodes, edges = [0.7], iter(operations)
    for target in (1, 2, 3):
        nodes.append(sum(functions[next(edges)](nodes[source]) for source in range(target)))
    return round(nodes[3], 9)


def test_isomorphic_cells_compute_the_same() -> None:
    values: dict[str, set[float]] = defaultdict(set)
    for operations in ALL:
        values[unique_str(operations)].add(value(operations))
    assert all(len(found) == 1 for found in values.values())
    # the benchmark leaves zeros in sums; without them 4,930 different cells remain
    assert len(set().union(*values.values())) == 4930


@pytest.mark.parametrize(
    ("operations", "text"),
    [
        ((NONE,) * 6, "#+#+#"),
        ((SKIP, NONE, SKIP, NONE, NONE, SKIP), "#+#+#+0"),
        ((NONE, CONV3, CONV1, CONV1, CONV3, SKIP), "#+#+(0)@nor_conv_3x3+(0)@nor_conv_1x1"),
        (
            (POOL, CONV1, SKIP, CONV1, SKIP, SKIP),  # the first row of the published table
            "(0)@avg_pool_3x3+(0)@avg_pool_3x3+(0)@nor_conv_1x1+(0)@nor_conv_1x1",
        ),
    ],
)
def test_what_a_cell_computes_in_the_benchmark_s_words(
    operations: tuple[str, ...], text: str
) -> None:
    assert unique_str(operations) == text
    assert unique_str(operations_of(canonical(arch_of(*operations)))) == text


def test_the_space_knows_its_isomorphism() -> None:
    model = nas_bench_201(channels=2, cells=1)
    # node 1 is node 0: the convolution may read either
    one = arch_of(SKIP, NONE, NONE, CONV3, NONE, NONE)
    other = arch_of(SKIP, NONE, NONE, NONE, CONV3, NONE)
    assert one != other
    assert model.canonical(one) == model.canonical(other)
    assert model.arch_space.canonical(one) == model.arch_space.canonical(other)
    assert pickle.loads(pickle.dumps(model)).canonical(one) == model.canonical(one)
    with pytest.raises(InvalidArch, match="'edge_3_2' is not decided"):
        canonical(Arch(dict.fromkeys(LABELS[:5], NONE)))


def test_every_architecture_survives_the_benchmark_s_notation() -> None:
    best = (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
        "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    assert from_arch_str(best) == arch_of(CONV3, CONV3, CONV3, SKIP, CONV3, CONV3)
    texts = set()
    for operations in ALL:
        text = to_arch_str(arch_of(*operations))
        assert from_arch_str(text) == arch_of(*operations)
        texts.add(text)
    assert best in texts
    assert len(texts) == len(ALL)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected 3 nodes, joined by '+', got 1 in ''"),
        ("|none~0|+|none~0|none~1|", "expected 3 nodes, joined by '+', got 2"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "node 2: expected |operation~source| for"),
        ("none~0+|none~0|none~1|+|none~0|none~1|none~2|", "node 1: expected |operation~source|"),
        ("|none~0||+|none~0|none~1|+|none~0|none~1|none~2|", "node 1: expected |operation"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "edge_2_0: expected source 0, got '1'"),
        (
            "|none|+|none~0|none~1|+|none~0|none~1|none~2|",
            "edge_1_0: expected source 0, got 'none'",
        ),
        (
            "|none~0|+|none~0|none~1|+|none~0|conv3x3~1|none~2|",
            "edge_3_1: no operation is named 'conv3x3'; did you mean",
        ),
    ],
)
def test_a_faulty_notation_is_refused_where_it_errs(text: str, told: str) -> None:
    with pytest.raises(InvalidArch) as caught:
        from_arch_str(text)
    assert told in str(caught.value)


def test_what_is_no_architecture_has_no_notation() -> None:
    with pytest.raises(InvalidArch, match="'edge_1_0' is 'conv', not one of its options"):
        to_arch_str({**arch_of(*(NONE,) * 6), "edge_1_0": "conv"})
