"""MobileNetV2 against published figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
from torch import nn

from raynas.core.errors import InvalidArch, UnknownName
from raynas.costs import Cost, cost_of
from raynas.nn import LayerChoice, activate, freeze, space_of
from raynas.nn.modelspace import SPACES
from raynas.nn.mutable import mutables
from raynas.nn.operators import OPERATORS, InvertedResidual
from raynas.search_spaces.mobilenet_v2 import (
    CANDIDATES,
    GPU_LAYOUT,
    STAGES,
    MobileNetV2,
    Residual,
    mobilenet_v2_cifar,
    mobilenet_v2_cifar_gpu,
    round_channels,
)
from tests.test_spaces import rows, settled, space


def sizes(net: MobileNetV2, resolution: int) -> list[int]:
    """Heights after the stem and after every stage."""
    x, heights = torch.zeros(1, 3, resolution, resolution), {}
    with torch.no_grad():
        for name, module in [("stem", net.eval().stem), *net.blocks.items()]:
            x = module(x)
            heights[name.split("_")[0]] = x.shape[2]
    return list(heights.values())


@pytest.mark.parametrize(
    ("net", "resolution", "params", "macs"),
    [
        (MobileNetV2, 224, 3_504_872, 300_774_272),
        (partial(MobileNetV2, cifar=True, num_classes=10), 32, 2_236_682, 43_758_080),
        (partial(MobileNetV2, layout=GPU_LAYOUT), 224, 4_684_776, 472_620_800),
        (
            partial(MobileNetV2, layout=GPU_LAYOUT, cifar=True, num_classes=10),
            32,
            3_416_586,
            68_294_912,
        ),
    ],
    ids=["imagenet", "cifar", "imagenet gpu", "cifar gpu"],
)
def test_published_parameters_and_macs(
    net: Callable[[], MobileNetV2], resolution: int, params: int, macs: int
) -> None:
    cost = cost_of(net(), torch.zeros(1, 3, resolution, resolution))
    assert (cost.params, cost.macs) == (params, macs)


def test_torchvision_s_network_computes_the_same() -> None:
    ours = settled(MobileNetV2().double()).eval()
    theirs = torchvision.models.mobilenet_v2().double().eval()
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
    pairs = list(zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True))
    for to, value in pairs:
        assert to.shape == value.shape
        to.copy_(value)
    x = rows((2, 3, 96, 96), torch.float64)
    with torch.no_grad():
        out = ours(x)
        torch.testing.assert_close(theirs(x), out, rtol=1e-11, atol=1e-11)
    assert out.std() > 0.01  # not two constants


def test_spatial_sizes() -> None:
    assert sizes(MobileNetV2(cifar=True), 32) == [32, 32, 16, 8, 4, 4, 4, 4]
    assert sizes(MobileNetV2(), 224) == [112, 112, 56, 28, 14, 14, 7, 7]


def test_sixteen_of_seventeen_blocks_are_choices() -> None:
    net = mobilenet_v2_cifar().supernet()
    assert isinstance(net, MobileNetV2)
    assert len(net.blocks) == 17
    choices = [m for m in mutables(net) if isinstance(m, LayerChoice)]
    assert [m.label for m in choices] == [name for name in net.blocks if name != "stage1_block1"]
    assert {m.names for m in choices} == {CANDIDATES}
    assert mobilenet_v2_cifar(width=0.1).arch_space.size() == 6**16
    frozen = freeze(net, {str(m.label): "MB7E3" for m in choices})
    assert isinstance(frozen, MobileNetV2)
    assert sizes(frozen, 32) == [32, 32, 16, 8, 4, 4, 4, 4]
    skips = [block for block in net.blocks.values() if isinstance(block, Residual)]
    assert len(skips) == 10


@pytest.mark.parametrize(
    ("candidate", "params", "macs"),
    [
        ("MB3E3", 1_923_738, 38_282_624),
        ("MB5E3", 2_007_450, 40_967_552),
        ("MB5E6", 3_584_010, 73_664_768),
        ("MB7E3", 2_133_018, 44_994_944),
        ("MB7E6", 3_835_146, 81_719_552),
    ],
)
def test_a_net_of_one_candidate_costs_what_modularnas_counts(
    candidate: str, params: int, macs: int
) -> None:
    model = mobilenet_v2_cifar_gpu(candidates=(candidate,))
    arch = dict.fromkeys(model.arch_space.labels, candidate)
    cost = cost_of(model.build(arch), model.example_input())
    assert (cost.params, cost.macs) == (params, macs)


def test_twenty_one_of_twenty_two_gpu_blocks_are_choices() -> None:
    net = mobilenet_v2_cifar_gpu().supernet()
    assert isinstance(net, MobileNetV2)
    assert len(net.blocks) == 22
    assert len(list(mutables(net))) == 21
    assert len([block for block in net.blocks.values() if isinstance(block, Residual)]) == 15
    assert mobilenet_v2_cifar_gpu(width=0.1).arch_space.size() == 6**21


def test_building_a_cifar_net_leaves_later_imagenet_nets_alone() -> None:
    def strides(net: MobileNetV2) -> list[Any]:
        return [m.stride for m in net.modules() if isinstance(m, nn.Conv2d)]

    before = strides(MobileNetV2(width=0.1))
    cifar = strides(MobileNetV2(width=0.1, cifar=True))
    mobilenet_v2_cifar(width=0.1).supernet()
    assert strides(MobileNetV2(width=0.1)) == before
    changed = [i for i, (a, b) in enumerate(zip(before, cifar, strict=True)) if a != b]
    depthwise_of_stage_6 = 1 + 2 + 3 * (2 + 3 + 4 + 3) + 1
    assert changed == [0, depthwise_of_stage_6]


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))][::7])
def test_four_backbones_built_in_any_order_have_their_own_strides(order: tuple[int, ...]) -> None:
    names = ("imagenet", "cifar", "imagenet_gpu", "cifar_gpu")
    for name in (names[i] for i in order):
        net = SPACES[f"mobilenet_v2_{name}"](width=0.1, candidates=("MB3E1",)).supernet()
        assert isinstance(net, MobileNetV2)
        activate(net, dict.fromkeys(space_of(net).labels, "MB3E1"))
        tail = [8, 4, 2, 2, 1, 1] if name.startswith("imagenet") else [16, 8, 4, 4, 4, 4]
        assert sizes(net, 32) == [2 * tail[0], 2 * tail[0], *tail]


def test_nil_leaves_a_block_with_a_skip_out() -> None:
    model = mobilenet_v2_cifar(width=0.5, zero=True)
    with_nil = [d.label for d in model.arch_space.choices if "NIL" in d.options]
    assert len(with_nil) == 1 + 2 + 3 + 2 + 2  # all blocks but the first of stages 2 to 6
    assert not any(label.endswith("block1") for label in with_nil)
    net = settled(model.supernet()).eval()
    assert isinstance(net, MobileNetV2)
    skip, x = net.blocks["stage4_block2"], rows((2, 32, 4, 4))
    activate(skip, {"stage4_block2": "NIL"})
    assert torch.equal(skip(x), x)
    plain = freeze(skip, {"stage4_block2": "NIL"})
    assert torch.equal(plain(x), x)
    assert not list(plain.parameters())


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("CIFAR_MobileNetV2", "mobilenet_v2_cifar"),
        ("CIFAR_MobileNetV2_GPU", "mobilenet_v2_cifar_gpu"),
        ("MobileNetV2", "mobilenet_v2_imagenet"),
        ("ImageNet_MobileNetV2", "mobilenet_v2_imagenet"),
        ("MobileNetV2_GPU", "mobilenet_v2_imagenet_gpu"),
        ("ProxylessNAS", "proxyless"),
    ],
)
def test_names_of_modularnas_are_aliases(alias: str, name: str) -> None:
    assert SPACES.name_of(alias) == name


def test_a_residual_adds_out_of_place() -> None:
    x = rows((2, 3, 4, 4))
    kept = x.clone()
    assert torch.equal(Residual(nn.Identity())(x), 2 * kept)
    assert torch.equal(x, kept)
    choice = Residual(LayerChoice({"skip": nn.Identity(), "conv": nn.Conv2d(3, 3, 1)}, label="b"))
    activate(choice, {"b": "skip"})
    assert torch.equal(choice(x), 2 * kept)
    assert torch.equal(freeze(choice, {"b": "skip"})(x), 2 * kept)
    assert torch.equal(x, kept)


def test_the_sixteen_inverted_residuals() -> None:
    names = [f"MB{k}E{e}" for k in (3, 5, 7, 9) for e in (1, 3, 6, 9)]
    assert set(names) <= set(OPERATORS)
    for name in names:
        layer, kernel, expand = OPERATORS[name](4, 8, 2), int(name[2]), int(name[4])
        assert isinstance(layer, InvertedResidual)
        convs = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
        hidden = convs[-1].in_channels
        assert hidden == 4 * expand
        depthwise = convs[-2]
        assert (depthwise.groups, depthwise.kernel_size) == (hidden, (kernel, kernel))
        assert len([m for m in layer.modules() if not list(m.children())]) == 5 + 3 * (expand > 1)
        assert all(conv.bias is None for conv in convs)


@pytest.mark.parametrize("width", [0.1, 0.25, 0.5, 0.75, 1.4])
def test_width_scales_every_channel_by_the_rounding_rule(width: float) -> None:
    net = MobileNetV2(width=width)
    expected = [round_channels(stage.channels * width) for stage in STAGES]
    assert list(block_widths(net)) == expected
    assert net.stem[0].out_channels == round_channels(32 * width)
    assert net.classifier.in_features == round_channels(1280 * width)


@pytest.mark.parametrize(
    ("width", "params"), [(0.5, 1_968_680), (0.25, 1_519_112), (1.0, 3_504_872), (1.4, 6_108_776)]
)
def test_a_head_that_is_not_narrowed_is_torchvision_s(width: float, params: int) -> None:
    net = MobileNetV2(width=width, narrow_head=False)
    theirs = torchvision.models.mobilenet_v2(width_mult=width)
    shapes = [p.shape for p in theirs.parameters()]
    assert [p.shape for p in net.parameters()] == shapes
    assert sum(p.numel() for p in net.parameters()) == params


@pytest.mark.parametrize("name", ["mobilenet_v2_imagenet", "mobilenet_v2_cifar_gpu", "proxyless"])
@pytest.mark.parametrize(("width", "heads"), [(0.5, (640, 1280)), (1.4, (1792, 1792))])
def test_the_head_s_width_is_an_option_of_the_space(
    name: str, width: float, heads: tuple[int, int]
) -> None:
    options = {"width": width, "depth": 0.2}
    for more, head in (({}, heads[0]), ({"narrow_head": False}, heads[1])):
        net = SPACES.build([name, options | more]).skeleton()
        assert net.head[0].out_channels == head
        assert net.classifier.in_features == head


def block_widths(net: MobileNetV2) -> Iterator[int]:
    for number in range(1, 8):
        block = net.blocks[f"stage{number}_block1"]
        yield [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1].num_features


def test_rounding_takes_the_nearest_multiple_of_eight_unless_it_loses_a_tenth() -> None:
    for channels in np.linspace(0.5, 400, 1500).tolist():
        below = max(8, 8 * math.floor(channels / 8))
        nearest = below if channels - below < 4 else below + 8
        expected = nearest if nearest >= 0.9 * channels else nearest + 8
        assert round_channels(channels) == expected


@pytest.mark.parametrize(("depth", "blocks"), [(0.5, 1 + 1 + 2 + 2 + 2 + 2 + 1), (2.0, 34)])
def test_depth_multiplies_the_blocks_of_every_stage(depth: float, blocks: int) -> None:
    net = mobilenet_v2_cifar(depth=depth, width=0.1).supernet()
    assert isinstance(net, MobileNetV2)
    assert len(net.blocks) == blocks


def test_options_reach_the_network() -> None:
    small = mobilenet_v2_cifar(
        num_classes=4,
        in_channels=1,
        resolution=16,
        width=0.1,
        dropout=0.7,
        candidates=["MB9E1", "MB3E9"],
    )
    net = small.supernet()
    assert isinstance(net, MobileNetV2)
    assert small.input_shape == (1, 16, 16)
    assert small.example_input(2).shape == (2, 1, 16, 16)
    assert net.dropout.p == 0.7
    assert {d.options for d in small.arch_space.choices} == {("MB9E1", "MB3E9")}
    arch = small.arch_space.sample(np.random.default_rng(0))
    assert small.build(arch)(small.example_input(2)).shape == (2, 4)


def test_an_unknown_candidate_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="'MB3E4'; did you mean 'MB3E"):
        mobilenet_v2_cifar(candidates=("MB3E4",)).supernet()


def test_blocks_with_a_skip_start_as_the_identity() -> None:
    net = mobilenet_v2_cifar(width=0.1).supernet()
    x = rows((2, 8, 4, 4))
    assert isinstance(net, MobileNetV2)
    skip = net.blocks["stage4_block2"]
    for name in CANDIDATES:
        activate(skip, {"stage4_block2": name})
        assert torch.equal(skip(x), x)


def test_a_skeleton_takes_no_memory() -> None:
    model = space("mobilenet_v2_cifar")
    bare, supernet = model.skeleton(), model.supernet()
    assert {t.device.type for t in (*bare.parameters(), *bare.buffers())} == {"meta"}
    assert {k: t.shape for k, t in bare.state_dict().items()} == {
        k: t.shape for k, t in supernet.state_dict().items()
    }
    assert [m.label for m in mutables(bare)] == [m.label for m in mutables(supernet)]


def test_an_inherited_build_has_the_supernet_s_weights() -> None:
    model = space("mobilenet_v2_cifar")
    supernet = settled(model.supernet(1)).eval()
    arch = model.arch_space.sample(np.random.default_rng(0))
    activate(supernet, arch)
    x = rows((2, 3, 32, 32))
    net = model.build(arch, supernet.state_dict(), seed=2).eval()
    assert torch.equal(net(x), supernet(x))
    assert isinstance(cost_of(net, x[:1]), Cost)
    with pytest.raises(InvalidArch, match="stage2_block1"):
        model.build({**arch, "stage2_block1": "MB3E4"})
