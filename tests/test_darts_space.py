"""DARTS' cells against published figures and a forward pass written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raynas.core.arch import Arch
from raynas.costs import cost_of
from raynas.nn import Cell, activate, freeze, space_of
from raynas.nn.genotype import from_genotype, to_genotype
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.operators import DARTS_PRIMITIVES, FactorizedReduce, ReLUConvBN
from raynas.search_spaces.darts import Cells, darts_cifar, darts_imagenet

# second order cells (Liu et al., 2019, arXiv:1806.09055)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
small = pytest.mark.parametrize("build", [darts_cifar, darts_imagenet])


def rows(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def sampled(model: ModelSpace, seed: int = 0) -> Arch:
    return model.arch_space.sample(np.random.default_rng(seed))


def settled(net: nn.Module) -> nn.Module:
    """Give BatchNorms statistics that matter."""
    rng = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(generator=rng)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2, generator=rng)
    return net


def cells(net: nn.Module) -> list[Any]:
    assert isinstance(net, Cells)
    return list(net.cells)


def weights_of_pools(net: nn.Module) -> int:
    """Count the weights of the BatchNorms behind pools, which the published nets do not have."""
    pools = [m for m in net.modules() if any(isinstance(c, POOLS) for c in m.children())]
    return sum(p.numel() for m in pools for p in m.parameters())


def test_the_published_supernet() -> None:
    model = darts_cifar()
    net = model.supernet()
    assert sum(p.numel() for p in net.parameters()) == 1_930_618  # printed by the authors' code
    assert model.arch_space.size() == (180 * 7**8) ** 2
    assert [c.label for c in cells(net)] == [
        "reduce" if layer in (2, 5) else "normal" for layer in range(8)
    ]
    for cell in cells(net):
        assert len(cell.edges) == 14
        assert all(edge.names == DARTS_PRIMITIVES for edge in cell.edges.values())
        assert {type(edge.layers()[0]).is_none for edge in cell.edges.values()} == {True}
    norms = [m for c in cells(net) for m in c.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.affine for norm in norms)


@pytest.mark.parametrize(
    ("model", "params"),  # as printed by the authors' code
    [
        (darts_cifar(channels=36, layers=20, affine=True), 3_349_342),
        (darts_imagenet(channels=48, layers=14, affine=True), 4_718_752),
    ],
    ids=["cifar", "imagenet"],
)
def test_the_published_networks(model: ModelSpace, params: int) -> None:
    with torch.device("meta"):
        net = freeze(model.factory(), from_genotype(DARTS_V2))
    assert sum(p.numel() for p in net.parameters()) - weights_of_pools(net) == params


def shapes(net: nn.Module, x: Tensor) -> list[tuple[int, int]]:
    """Channels and height of every cell's output."""
    sizes: list[tuple[int, int]] = []
    hooks = [c.register_forward_hook(lambda *a: sizes.append(a[2].shape[1:3])) for c in cells(net)]
    with torch.no_grad():
        net.eval()(x)
    for hook in hooks:
        hook.remove()
    return [(channels, height) for channels, height in sizes]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (darts_cifar(channels=4, nodes=2), [(8, 32)] * 2 + [(16, 16)] * 3 + [(32, 8)] * 3),
        (darts_cifar(channels=4, nodes=3, layers=3), [(12, 32), (24, 16), (48, 8)]),
        (darts_imagenet(channels=4, nodes=2), [(8, 28)] * 2 + [(16, 14)] * 3 + [(32, 7)] * 3),
    ],
    ids=["cifar", "three nodes", "imagenet"],
)
def test_reductions_halve_the_size_and_double_the_channels(
    model: ModelSpace, expected: list[tuple[int, int]]
) -> None:
    net = model.supernet()
    activate(net, sampled(model))
    x = model.example_input()
    assert shapes(net, x) == expected
    halved = model.name == "darts_imagenet"  # there the stem's last convolution has stride 2
    for cell in cells(net):
        assert type(cell.pre.before) is (FactorizedReduce if halved else ReLUConvBN)
        assert type(cell.pre.last) is ReLUConvBN
        halved = cell.label == "reduce"


def test_the_stem_of_large_images_shrinks_them_by_four_and_by_eight() -> None:
    net = darts_imagenet(channels=6, layers=1).supernet()
    first, second = net.get_submodule("stem")(rows(1, 3, 64, 64, dtype=torch.float32))
    assert (first.shape, second.shape) == ((1, 6, 16, 16), (1, 6, 8, 8))
    strides = [m.stride for m in net.get_submodule("stem").modules() if isinstance(m, nn.Conv2d)]
    assert strides == [(2, 2)] * 3


def by_hand(net: nn.Module, arch: Arch, x: Tensor) -> Tensor:
    """Run an architecture with the supernet's layers, without its cells' own forward."""
    before, last = net.get_submodule("stem")(x)
    for cell in cells(net):
        states = {"s0": cell.pre.before(before), "s1": cell.pre.last(last)}
        for node in range(4):
            picked: Any = arch[f"{cell.label}/n{node}/from"]
            operations = {s: arch[f"{cell.label}/n{node}/op/{s}"] for s in picked}
            states[f"n{node}"] = sum(
                cell.edges[f"n{node}_{s}"].candidates[name](states[s])
                for s, name in operations.items()
            )
        before, last = last, torch.cat([states[f"n{node}"] for node in range(4)], 1)
    logits: Tensor = net.get_submodule("classifier")(last.mean((2, 3)))
    return logits


@small
def test_a_net_computes_its_two_cells(build: Any) -> None:
    model = build(channels=4, layers=3, resolution=32, num_classes=3)
    net, x = settled(model.supernet().double()).eval(), rows(2, 3, 32, 32)
    for seed in range(3):
        arch = sampled(model, seed)
        activate(net, arch)
        expected = by_hand(net, arch, x)
        torch.testing.assert_close(net(x), expected)
        frozen = freeze(net, arch)
        assert torch.equal(frozen(x), net(x))
        assert expected.std() > 0


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_last_cell_gets_its_gradient_in_its_own_layout(layout: torch.memory_format) -> None:
    model = darts_cifar(channels=4, layers=3, resolution=32)
    net = model.supernet().to(memory_format=layout)
    activate(net, sampled(model))
    gradients: list[Tensor] = []

    def watch(*given: Any) -> Tensor:
        out: Tensor = given[-1]
        out.register_hook(gradients.append)
        return out.view_as(out)

    net.get_submodule("cells.2").register_forward_hook(watch)
    x = rows(2, 3, 32, 32, dtype=torch.float32).contiguous(memory_format=layout)
    net(x).sum().backward()
    assert [g.is_contiguous(memory_format=layout) for g in gradients] == [True]


@small
def test_macs_of_a_frozen_net_are_torch_s(build: Any) -> None:
    model = build(channels=4, layers=3, nodes=2, resolution=32)
    for seed in range(2):
        net = model.build(sampled(model, seed))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.eval()(model.example_input())
        assert cost_of(net, model.example_input()).macs == counter.get_total_flops() / 2 > 0


def test_both_spaces_hold_the_same_cells_and_read_genotypes() -> None:
    cifar, imagenet = (build(channels=2, layers=3) for build in (darts_cifar, darts_imagenet))
    assert cifar.arch_space == imagenet.arch_space
    published = from_genotype(DARTS_V2)
    cifar.arch_space.check(published)
    assert to_genotype(published).normal[4:6] == [("skip_connect", 0), ("sep_conv_3x3", 1)]
    for seed in range(10):
        arch = sampled(cifar, seed)
        assert from_genotype(repr(to_genotype(arch))) == arch


def test_a_supernet_mixes_none_in_and_no_architecture_picks_it() -> None:
    model = darts_cifar(channels=2, layers=2, nodes=1)
    assert not [d.label for d in model.arch_space.decisions.values() if "none" in d.options]
    edges = [edge for cell in cells(model.supernet()) for edge in cell.edges.values()]
    assert all("none" in edge.names for edge in edges)


@small
def test_other_inputs_work(build: Any) -> None:
    model = build(channels=3, layers=3, nodes=2, in_channels=1, resolution=8, num_classes=4)
    assert model.input_shape == (1, 8, 8)
    net = model.supernet().eval()
    for seed, resolution in enumerate([16, 9, 8, 7, 1]):
        activate(net, sampled(model, seed))
        out = net(rows(2, 1, resolution, resolution, dtype=torch.float32))
        assert out.shape == (2, 4)
        assert out.isfinite().all()


def test_gradients_reach_only_what_is_active() -> None:
    model = darts_cifar(channels=4, layers=3, resolution=8)
    net, arch = model.supernet(), sampled(model)
    activate(net, arch)
    net(rows(4, 3, 8, 8, dtype=torch.float32)).square().sum().backward()
    active = {
        *net.get_submodule("stem").parameters(),
        *net.get_submodule("classifier").parameters(),
    }
    for cell in cells(net):
        for name, edge in cell.edges.items():
            node, source = name.split("_")
            if source in arch[f"{cell.label}/{node}/from"]:  # type: ignore[operator]
                operation = arch[f"{cell.label}/{node}/op/{source}"]
                active |= set(edge.candidates[operation].parameters())
        active |= set(cell.pre.parameters())
    reached = {p for p in net.parameters() if p.grad is not None}
    assert reached == active
    assert len(reached) < len(list(net.parameters()))


def test_affine_gives_the_cells_batch_norms_weights() -> None:
    plain, affine = (darts_cifar(channels=4, layers=3, affine=a).supernet() for a in (False, True))
    norms = [m for m in affine.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.affine for norm in norms)
    extra = sum(2 * m.num_features for m in norms) - 2 * 3 * 4  # the stem's has them anyway
    count = [sum(p.numel() for p in net.parameters()) for net in (plain, affine)]
    assert count[1] - count[0] == extra > 0


def test_options_reach_the_network() -> None:
    model = darts_cifar(channels=2, layers=4, nodes=3, stem_multiplier=5, in_channels=2)
    net = model.supernet()
    assert model.input_shape == (2, 32, 32)
    assert len(cells(net)) == 4
    assert isinstance(cells(net)[0], Cell)
    assert cells(net)[0].pre.last.conv.in_channels == 5 * 2
    assert len(cells(net)[0].edges) == 2 + 3 + 4
    assert model.arch_space.size() == (3 * 6 * 7**6) ** 2
    assert space_of(net) == model.arch_space


@pytest.mark.parametrize("option", ["channels", "layers", "nodes", "in_channels", "resolution"])
@pytest.mark.parametrize("name", ["darts_cifar", "darts_imagenet"])
def test_sizes_must_be_positive(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: {option} must be positive, got 0"):
        SPACES[name](**{option: 0})
