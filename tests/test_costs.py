"""Costs against torch's own counter, against arithmetic by hand, and of table against network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raynas.core.errors import InvalidSpace
from raynas.costs import Cost, CostTable, cost_of
from raynas.nn import LayerChoice, activate, freeze, space_of
from raynas.nn.mutable import mutables
from raynas.search_spaces.mobilenet_v2 import MobileNetV2, mobilenet_v2_cifar
from tests.costnets import Toy, conv, state

Make = Callable[[], nn.Module]


class Products(nn.Module):
    """Batched products in several spellings, (1, 4, 6) in."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(1, 6, 5))

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.bmm(x, self.keys)
        biased = torch.baddbmm(x @ x.mT, scores, scores.mT)
        return torch.einsum("bij,bjk->bik", biased, x)


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


COUNTED: dict[str, tuple[Make, tuple[int, ...]]] = {
    "mobilenet": (lambda: MobileNetV2(width=0.25), (1, 3, 64, 64)),
    "mobilenet cifar": (lambda: MobileNetV2(cifar=True), (1, 3, 32, 32)),
    "linear": (lambda: nn.Linear(7, 5), (1, 7)),
    "linear of many rows": (lambda: nn.Linear(7, 5), (1, 3, 4, 7)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (1, 3, 7)),
    "flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU()), (1, 3, 4)),
    "strided": (lambda: nn.Conv2d(4, 6, 3, 2, 1, bias=False), (1, 4, 9, 8)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (1, 4, 9, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 5, padding=2, groups=4), (1, 4, 9, 8)),
    "dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=2), (1, 4, 9, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2), (1, 4, 5, 6)),
    "transposed in groups": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2), (1, 4, 5, 6)),
    "series": (lambda: nn.Conv1d(4, 6, 3), (1, 4, 9)),
    "volume": (lambda: nn.Conv3d(2, 3, 3), (1, 2, 5, 6, 7)),
    "products": (Products, (1, 4, 6)),
    "attention": (attention, (1, 5, 8)),
}


@pytest.mark.parametrize(("make", "shape"), COUNTED.values(), ids=COUNTED)
def test_params_and_macs_are_torch_s_own(make: Make, shape: tuple[int, ...]) -> None:
    net, x = make().train(), torch.zeros(shape)
    # in training mode, since torch's counter misses attention's fused evaluation
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    cost = cost_of(net, x)
    assert cost.macs == counter.get_total_flops() / 2 > 0
    assert cost.params == sum(p.numel() for p in net.parameters())


def test_all_parameters_count_whether_trained_or_not() -> None:
    net = nn.Linear(3, 2)
    net.weight.requires_grad_(False)
    assert cost_of(net, torch.zeros(1, 3)).params == 8
    tied = nn.Sequential(net, nn.Linear(2, 3), net)
    assert cost_of(tied, torch.zeros(1, 3)).params == 8 + 9


class Kept(nn.Module):
    """Keeps the stem's result while a wider branch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.back = nn.Linear(4, 8), nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        y: Tensor = h + self.back(self.wide(h))
        return y


def chain(inplace: bool) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(inplace), nn.Conv2d(4, 1, 1))


# Bytes, four to a number; the input x stays alive throughout.
PEAKS: dict[str, tuple[Make, tuple[int, ...], int]] = {
    # x 32 numbers; nothing is added
    "nothing": (nn.Identity, (1, 2, 4, 4), 4 * 32),
    # x 32, convolved 64, rectified 64 (the convolved is freed after it); then 16
    "out of place": (lambda: chain(False), (1, 2, 4, 4), 4 * (32 + 64 + 64)),
    # x 32, convolved and rectified 64, last 16
    "in place": (lambda: chain(True), (1, 2, 4, 4), 4 * (32 + 64 + 16)),
    # x 4, h 8, wide 64, back 8: h is needed for the sum, wide until back is there
    "residual": (Kept, (1, 4), 4 * (4 + 8 + 64 + 8)),
    # without the sum, h is free when wide is there: x 4, h 8, wide 64 = x 4, wide 64, back 8
    "no residual": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 64), nn.Linear(64, 8)),
        (1, 4),
        4 * (4 + 8 + 64),
    ),
    # x 32 and its view, then 5; the weights (160, and a view of them) do not count
    "view": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 5)), (1, 2, 4, 4), 4 * (32 + 5)),
    # x 18, normalised 18, pooled 2: the statistics of evaluation are buffers
    "normalised": (
        lambda: nn.Sequential(nn.BatchNorm2d(2), nn.AvgPool2d(3)),
        (1, 2, 3, 3),
        4 * (18 + 18 + 2),
    ),
}


@pytest.mark.parametrize(("make", "shape", "peak"), PEAKS.values(), ids=PEAKS)
def test_peak_memory_by_hand(make: Make, shape: tuple[int, ...], peak: int) -> None:
    assert cost_of(make(), torch.zeros(shape)).activation_bytes == peak
    doubled = cost_of(make().double(), torch.zeros(shape, dtype=torch.float64))
    assert doubled.activation_bytes == 2 * peak


def test_an_example_cut_from_a_data_set_counts_for_itself() -> None:
    net, many = chain(True), torch.zeros(1000, 2, 4, 4)
    assert cost_of(net, many[3:4]) == cost_of(net, torch.zeros(1, 2, 4, 4))
    assert CostTable(net, many[:1]).cost({}) == cost_of(net, torch.zeros(1, 2, 4, 4))


def test_the_table_is_exact_for_every_arch_of_a_nested_space() -> None:
    torch.manual_seed(0)
    net, x = Toy(), torch.randn(1, 1, 6, 6)
    archs = list(space_of(net))
    table = CostTable(net, x)
    costs = [table.cost(arch) for arch in archs]
    assert costs == [cost_of(freeze(net, arch), x) for arch in archs]
    assert len(archs) == 3 * 2 * 2 * 2
    tables = [cost.as_metrics() for cost in costs]  # there is no attention, so no cache
    assert all(len({table[name] for table in tables}) > 1 for name in tables[0])


def test_the_table_is_exact_for_mobilenet() -> None:
    space = mobilenet_v2_cifar(width=0.25)
    net, x = space.supernet(), space.example_input()
    table, rng = CostTable(net, x), np.random.default_rng(0)
    archs = [space.arch_space.sample(rng) for _ in range(8)]
    costs = [table.cost(arch) for arch in archs]
    assert costs == [cost_of(freeze(net, arch), x) for arch in archs]
    assert len(set(costs)) == 8


def test_a_network_without_choices_has_one_row() -> None:
    net, x = MobileNetV2(width=0.1), torch.zeros(1, 3, 32, 32)
    assert CostTable(net, x).cost({}) == cost_of(net, x)


def test_an_identity_counts_as_a_copy_in_any_order() -> None:
    torch.manual_seed(0)
    x = torch.zeros(1, 4, 6, 6)
    layers = {"conv": conv(4, 4, 3), "skip": nn.Identity()}
    one, other = (
        nn.Sequential(LayerChoice({name: layers[name] for name in names}, label="op"), nn.Tanh())
        for names in (("conv", "skip"), ("skip", "conv"))
    )
    for op in layers:
        cost = CostTable(one, x).cost({"op": op})
        exact = cost_of(freeze(one, {"op": op}), x)
        assert cost == CostTable(other, x).cost({"op": op})
        assert (cost.params, cost.macs) == (exact.params, exact.macs)
        assert cost.activation_bytes >= exact.activation_bytes
    assert CostTable(one, x).cost({"op": "conv"}) == cost_of(freeze(one, {"op": "conv"}), x)


def test_counting_changes_nothing() -> None:
    net, x = Toy(), torch.randn(1, 1, 6, 6)
    activate(net, next(iter(space_of(net))))
    net.train()
    net.third.eval()
    net.second.route = None
    torch.backends.mha.set_fastpath_enabled(True)  # its default
    before = state(net)
    CostTable(net, x)
    assert state(net) == before
    cost_of(freeze(net, next(iter(space_of(net)))), x)
    net.second.route = 0
    before = state(net)
    cost_of(net, x)
    assert state(net) == before


@pytest.mark.parametrize(
    "odd",
    [conv(4, 5, 3), nn.MaxPool2d(2), nn.Sequential(conv(4, 4, 3), nn.Flatten())],
    ids=["channels", "size", "dimensions"],
)
def test_candidates_of_other_shapes_are_named(odd: nn.Module) -> None:
    net = nn.Sequential(conv(1, 4, 3), LayerChoice({"fine": conv(4, 4, 1), "odd": odd}))
    space_of(net)
    activate(net, {"1": "odd"})
    before = state(net)
    with pytest.raises(InvalidSpace, match=r"choice '1': candidate 'odd' gives.*\(1, 4, 6, 6\)"):
        CostTable(net, torch.zeros(1, 1, 6, 6))
    assert state(net) == before
    assert [m.route for m in mutables(net)] == [1]


def test_metrics_are_floats_by_name() -> None:
    metrics = Cost(1, 2, 3).as_metrics()
    assert metrics == {"params": 1.0, "macs": 2.0, "activation_bytes": 3.0}
    assert {type(value) for value in metrics.values()} == {float}
