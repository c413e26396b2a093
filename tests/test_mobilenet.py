"""MobileNetV2 against published figures, and laws of every registered space and operator."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from raynas.core.arch import Arch
from raynas.core.errors import InvalidArch, UnknownName
from raynas.core.options import options_of
from raynas.core.spacejson import from_plain, to_plain
from raynas.costs import Cost, cost_of
from raynas.nn import LayerChoice, activate, freeze
from raynas.nn.modelspace import SPACES, ModelSpace
from raynas.nn.mutable import mutables
from raynas.nn.operators import OPERATORS, InvertedResidual
from raynas.search_spaces.mobilenet_v2 import (
    CANDIDATES,
    STAGES,
    MobileNetV2,
    Residual,
    mobilenet_v2_cifar,
    round_channels,
)


def space(name: str) -> ModelSpace:
    """A registered space, as narrow as it can be made."""
    builder = SPACES[name]
    return builder(**({"width": 0.1} if "width" in options_of(builder) else {}))


def settled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give a net BatchNorm statistics and weights that matter."""
    rng = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
            nn.init.normal_(module.weight, 4, 1, generator=rng)  # some activations exceed 6
            nn.init.normal_(module.bias, generator=rng)
    return net


def rows(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


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
    ],
    ids=["imagenet", "cifar"],
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


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_leaves_its_input_alone(name: str) -> None:
    x = rows((2, 4, 6, 6))
    kept = x.clone()
    OPERATORS[name](4, 4, 1)(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_gives_the_right_shape(name: str, stride: int) -> None:
    layer = OPERATORS[name](3, 5, stride)
    for size in (8, 9):
        out = math.ceil(size / stride)
        assert layer(rows((2, 3, size, size))).shape == (2, 5, out, out)


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


@pytest.mark.parametrize("name", SPACES)
def test_a_space_builds_what_it_samples(name: str) -> None:
    model = space(name)
    rng = np.random.default_rng(0)
    assert model.input_shape is not None
    x = rows((2, *model.input_shape))
    outs = set()
    for _ in range(3):
        arch = model.arch_space.sample(rng)
        net = model.build(arch).eval()
        assert not list(mutables(net))
        out = net(x)
        assert out.shape[0] == 2
        assert out.isfinite().all()
        outs.add(out.shape[1:])
        supernet = model.supernet()
        activate(supernet, arch)
        assert torch.equal(supernet.eval()(x), out)
        built = model.build(arch, supernet.state_dict()).state_dict()
        assert list(built) == list(net.state_dict())
    assert outs == {torch.Size([options_of(SPACES[name])["num_classes"].default])}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_s_laws(name: str) -> None:
    model = space(name)
    tree, rng = model.arch_space, np.random.default_rng(1)
    plain = to_plain(tree)
    assert from_plain(json.loads(json.dumps(plain))) == tree
    assert tree.size() > 1
    width = len(tree.encode(tree.sample(rng)))
    for _ in range(20):
        arch, other = tree.sample(rng), tree.sample(rng)
        tree.check(arch)
        assert Arch.from_json(arch.to_json()) == arch
        assert tree.unpack(tree.pack(arch)) == arch
        assert len(tree.encode(arch)) == width
        mutant, child = tree.mutate(arch, rng), tree.cross(arch, other, rng)
        tree.check(mutant)
        tree.check(child)
        changed = [k for k in tree.reached(arch) if k in mutant and mutant[k] != arch[k]]
        assert len(changed) == 1  # what it opens or closes is in one of them only
        assert all(child[k] in (arch.get(k), other.get(k)) for k in child if {k} <= {*arch, *other})
        assert model.canonical(arch) == model.canonical(model.canonical(arch))
    with pytest.raises(InvalidArch, match="'nowhere'"):
        tree.check({**tree.sample(rng), "nowhere": 1})


@pytest.mark.parametrize("name", SPACES)
def test_a_supernet_is_a_function_of_its_seed(name: str) -> None:
    model = space(name)
    before = torch.get_rng_state()
    first, again, other = (model.supernet(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


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
