"""Once-for-All's MobileNetV3 against torchvision's network and figures counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from raynas.core.arch import Arch
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.costs import cost_of
from raynas.nn import ValueChoice, activate, freeze, space_of
from raynas.nn.blocks import Residual
from raynas.nn.elastic_block import ElasticInvertedResidual, ElasticSqueezeExcite
from raynas.nn.operators import InvertedResidual
from raynas.search_spaces.ofa_mobilenet_v3 import OFAMobileNetV3, ofa_mobilenet_v3
from raynas.supernet.calibration import calibrated
from tests.laws import keeps_the_laws

WIDTHS, STRIDES = (16, 24, 40, 80, 112, 160), (2, 2, 2, 1, 2)
GATED, H_SWISH = (False, True, False, True, True), (False, False, True, True, True)
# of a squeeze-and-excitation: channels in, channels between
SQUEEZED = {
    **{72: 24, 96: 24, 144: 40, 120: 32, 160: 40, 240: 64, 320: 80, 480: 120},
    **{336: 88, 448: 112, 672: 168, 640: 160, 960: 240},
}


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def settled(net: nn.Module) -> nn.Module:
    """Give a net weights and BatchNorm statistics of which all matter."""
    rng = torch.Generator().manual_seed(0)
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if "transform" in name or "bias" in name or "mean" in name or "bn.weight" in name:
            tensor.data.add_(torch.randn(tensor.shape, generator=rng, dtype=tensor.dtype) / 5)
    return net


def fixed(depth: int, kernel: int, expand: int) -> Arch:
    decided: dict[str, Any] = {}
    for stage in range(1, 6):
        decided[f"stage{stage}.depth"] = depth
        for block in range(1, depth + 1):
            decided[f"stage{stage}.block{block}.kernel"] = kernel
            decided[f"stage{stage}.block{block}.expand"] = expand
    return Arch(decided)


def blocks(arch: Arch) -> list[tuple[int, int, int, int, int, int]]:
    """Stage, channels in and out, stride, kernel, and hidden channels of every block."""
    found = []
    for stage in range(1, 6):
        channels = WIDTHS[stage - 1]
        for block in range(1, int(str(arch[f"stage{stage}.depth"])) + 1):
            kernel: Any = arch[f"stage{stage}.block{block}.kernel"]
            expand: Any = arch[f"stage{stage}.block{block}.expand"]
            stride = STRIDES[stage - 1] if block == 1 else 1
            found.append((stage, channels, WIDTHS[stage], stride, kernel, channels * expand))
            channels = WIDTHS[stage]
    return found


def counted(arch: Arch, size: int = 224) -> tuple[int, int]:
    """Parameters and multiply-accumulates at width 1 for 1000 classes, counted by hand."""
    size //= 2
    params, macs = 27 * 16 + 32, 27 * 16 * size**2
    params += 16 * 9 + 16 * 16 + 64
    macs += (16 * 9 + 16 * 16) * size**2
    for stage, channels, out, stride, kernel, hidden in blocks(arch):
        params += hidden * (channels + kernel**2 + out) + 4 * hidden + 2 * out
        macs += hidden * channels * size**2
        size //= stride
        macs += hidden * (kernel**2 + out) * size**2
        if GATED[stage - 1]:
            squeezed = SQUEEZED[hidden]
            params += 2 * hidden * squeezed + hidden + squeezed
            macs += 2 * hidden * squeezed
    params += 160 * 960 + 2 * 960 + 960 * 1280 + 1280 * 1000 + 1000
    macs += 160 * 960 * size**2 + 960 * 1280 + 1280 * 1000
    return params, macs


def test_the_space_holds_over_1e19_networks() -> None:
    model = ofa_mobilenet_v3()
    assert model.arch_space.size() == (9**2 + 9**3 + 9**4) ** 5 == 21_758_655_492_572_485_851
    assert [d.label for d in model.arch_space.choices] == [f"stage{i}.depth" for i in range(1, 6)]
    kinds = {label.rpartition(".")[2]: d for label, d in model.arch_space.decisions.items()}
    assert {kind: d.options for kind, d in kinds.items()} == {
        "depth": (2, 3, 4),
        "kernel": (3, 5, 7),
        "expand": (3, 4, 6),
    }
    assert len(model.arch_space.labels) == 5 + 2 * 20
    model.arch_space.check(fixed(3, 5, 4))
    with pytest.raises(InvalidArch, match=r"'stage1.block3.kernel' is decided but not reached"):
        model.arch_space.check({**fixed(2, 3, 3), "stage1.block3.kernel": 3})


def test_the_largest_and_the_smallest_network_cost_what_they_should() -> None:
    model = ofa_mobilenet_v3()
    supernet = model.supernet()
    weights = sum(p.numel() for p in supernet.parameters())
    largest = cost_of(freeze(supernet, fixed(4, 7, 6)), model.example_input())
    assert (largest.params, largest.macs) == counted(fixed(4, 7, 6)) == (7_664_760, 566_170_656)
    assert weights == largest.params + 20 * (25**2 + 9**2)  # the kernels' matrices
    smallest = cost_of(freeze(supernet, fixed(2, 3, 3)), model.example_input())
    assert (smallest.params, smallest.macs) == counted(fixed(2, 3, 3))
    assert largest.macs > 4 * smallest.macs


@pytest.mark.parametrize("seed", range(3))
def test_any_network_costs_what_is_counted_by_hand_and_by_torch(seed: int) -> None:
    model = ofa_mobilenet_v3(resolution=64)
    arch = model.arch_space.sample(np.random.default_rng(seed))
    net = freeze(model.skeleton(), arch).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(model.example_input().to("meta"))
    params = sum(p.numel() for p in net.parameters())
    assert (params, counter.get_total_flops() / 2) == counted(arch, 64)


def theirs(arch: Arch) -> nn.Module:
    """torchvision's network of the same blocks."""
    settings = [InvertedResidualConfig(16, 3, 16, 16, False, "RE", 1, 1, 1.0)]
    for stage, channels, out, stride, kernel, hidden in blocks(arch):
        act = "HS" if H_SWISH[stage - 1] else "RE"
        settings.append(
            InvertedResidualConfig(
                channels, kernel, hidden, out, GATED[stage - 1], act, stride, 1, 1.0
            )
        )
    net: nn.Module = MobileNetV3(settings, last_channel=1280, num_classes=1000)
    return net


@pytest.mark.parametrize("seed", range(2))
def test_torchvision_s_network_of_the_same_blocks_computes_the_same(seed: int) -> None:
    model = ofa_mobilenet_v3()
    supernet = settled(model.supernet().double()).eval()
    arch, x = model.arch_space.sample(np.random.default_rng(seed)), rows(1, 3, 64, 64)
    ours, other = freeze(supernet, arch), theirs(arch).double().eval()
    extra = "classifier.0.bias"  # of their last layer but one
    state = other.state_dict()
    names = [name for name in state if name != extra]
    weights = dict(zip(names, ours.state_dict().values(), strict=True))
    other.load_state_dict({**weights, extra: torch.zeros_like(state[extra])})
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    out = ours(x)
    torch.testing.assert_close(out, other(x))
    assert out.std() > 0
    activate(supernet, arch)
    torch.testing.assert_close(supernet(x), out)


def test_random_networks_freeze_to_what_the_supernet_computes() -> None:
    net = settled(OFAMobileNetV3(width=0.25, num_classes=5).double())
    keeps_the_laws(net, rows(2, 3, 32, 32), samples=5)


K, E = ValueChoice([3, 5, 7], label="k"), ValueChoice([3, 4, 6], label="e")


def block(channels: int = 24, out: int = 40, *, squeeze_excite: bool = True) -> Any:
    """A single elastic block in double precision, none of whose weights are trivial."""
    made = ElasticInvertedResidual(
        channels, out, 1, kernel=K, expand=E, activation="hswish", squeeze_excite=squeeze_excite
    )
    return settled(made.double()).eval()


def test_the_parameters_of_one_block() -> None:
    net = freeze(block(), {"k": 5, "e": 3})
    expand, depthwise, project = 24 * 72 + 2 * 72, 72 * 25 + 2 * 72, 72 * 40 + 2 * 40
    squeeze_excite = 72 * 24 + 24 + 24 * 72 + 72
    total = expand + depthwise + squeeze_excite + project
    assert sum(p.numel() for p in net.parameters()) == total == 10_328


@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_a_frozen_block_is_the_operator_of_these_sizes(squeeze_excite: bool) -> None:
    x = rows(2, 24, 9, 9)
    net = block(squeeze_excite=squeeze_excite)
    for kernel, expand in [(7, 6), (5, 4), (3, 3)]:
        frozen = freeze(net, {"k": kernel, "e": expand})
        plain = InvertedResidual(
            *(24, 40, 1),
            kernel=kernel,
            expand=expand,
            activation="hswish",
            squeeze_excite=squeeze_excite,
        ).double()
        plain.load_state_dict(frozen.state_dict())
        assert torch.equal(plain.eval()(x), frozen(x))


def test_narrow_blocks_are_the_first_channels_of_wide_ones() -> None:
    net = block()
    frozen: Any = freeze(net, {"k": 7, "e": 3})
    assert torch.equal(frozen.expand.conv.weight, net.expand.conv.weight[:72])
    assert torch.equal(frozen.depthwise.conv.weight, net.depthwise.conv.weight[:72])
    assert torch.equal(frozen.depthwise.bn.running_mean, net.depthwise.bn.running_mean[:72])
    assert torch.equal(
        frozen.squeeze_excite.reduce.weight, net.squeeze_excite.reduce.weight[:24, :72]
    )
    assert torch.equal(frozen.squeeze_excite.expand.bias, net.squeeze_excite.expand.bias[:72])
    assert torch.equal(frozen.project.conv.weight, net.project.conv.weight[:, :72])


def test_kernel_3_is_made_of_kernel_5_and_that_of_kernel_7() -> None:
    net = block()
    seven = net.depthwise.conv.weight
    assert seven.shape == (144, 1, 7, 7)
    matrix5, matrix3 = net.depthwise.conv.transform_7to5, net.depthwise.conv.transform_5to3
    assert not torch.allclose(matrix5, torch.eye(25, dtype=torch.float64))
    for kernel in (7, 5, 3):
        frozen: Any = freeze(net, {"k": kernel, "e": 6})
        for channel in (0, 71, 143):
            expected = seven[channel, 0]
            if kernel < 7:
                expected = (matrix5 @ expected[1:6, 1:6].reshape(25)).reshape(5, 5)
            if kernel < 5:
                expected = (matrix3 @ expected[1:4, 1:4].reshape(9)).reshape(3, 3)
            torch.testing.assert_close(frozen.depthwise.conv.weight[channel, 0], expected)


def test_gradients_reach_only_active_slices() -> None:
    net = OFAMobileNetV3(width=0.25, num_classes=5).double()
    arch = Arch({**fixed(2, 3, 4), "stage2.block1.kernel": 5, "stage2.block1.expand": 3})
    activate(net, arch)
    net(rows(4, 3, 32, 32)).square().sum().backward()
    stage: Any = net.stages["stage2"]
    first, second, third, _ = stage.blocks
    # the first block goes from 8 channels to 16 and has 24 of 48 hidden ones
    hidden = first.expand.conv.weight.grad.flatten(1).abs().amax(1)
    assert hidden[:24].min() > 0
    assert hidden[24:].max() == 0
    kernel = first.depthwise.conv.weight.grad.abs().amax((0, 1))
    assert kernel[1:6, 1:6].min() > 0
    assert kernel[[0, 6]].max() == kernel[:, [0, 6]].max() == 0
    assert first.depthwise.conv.transform_7to5.grad is not None
    assert first.depthwise.conv.transform_5to3.grad is None
    assert first.squeeze_excite.reduce.weight.grad[:, 24:].abs().max() == 0
    assert first.project.conv.weight.grad[:, 24:].abs().max() == 0
    assert first.project.conv.weight.grad[:, :24].abs().max() > 0
    assert second.block.depthwise.conv.transform_5to3.grad is not None
    assert all(p.grad is None for p in third.parameters())


def test_blocks_with_a_skip_add_out_of_place() -> None:
    net = OFAMobileNetV3(width=0.25).eval()
    skips = {
        f"{name}.{at}": isinstance(block, Residual)
        for name, stage in net.stages.items()
        for at, block in enumerate(stage.blocks)  # type: ignore[arg-type]
    }
    assert skips == {f"stage{i}.{at}": at > 0 for i in range(1, 6) for at in range(4)}
    assert isinstance(net.first, Residual)
    activate(net, fixed(4, 3, 3))
    second: Any = net.stages["stage3"].blocks[1]  # type: ignore[index]
    x = rows(2, 24, 4, 4).float()
    kept = x.clone()
    torch.testing.assert_close(second(x), kept + second.block(kept))
    assert torch.equal(x, kept)


def test_a_scoring_pass_takes_its_own_statistics_in_elastic_norms() -> None:
    net = OFAMobileNetV3(width=0.25, num_classes=5).double()
    x, arch = rows(8, 3, 32, 32), fixed(2, 5, 4)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.dropout.p = 0.0
    activate(net, arch)
    expected = freeze(net, arch).train()(x)
    calibration = calibrated(net.eval())
    calibration.begin(len(x))
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("resolution", [32, 8, 1])
def test_other_inputs_and_options_work(resolution: int) -> None:
    model = ofa_mobilenet_v3(
        num_classes=4,
        in_channels=1,
        resolution=resolution,
        width=0.5,
        depths=[1, 3],
        kernels=[3, 5],
        expands=[1.5, 2],
        dropout=0.0,
    )
    space = model.arch_space
    assert space.size() == (4 + 4**3) ** 5
    assert model.input_shape == (1, resolution, resolution)
    arch = space.sample(np.random.default_rng(0))
    out = model.build(arch).eval()(model.example_input(2) + 1)
    assert out.shape == (2, 4)
    assert out.isfinite().all()


def test_width_multiplies_all_channels() -> None:
    net: Any = OFAMobileNetV3(width=1.2)
    assert net.stem.conv.out_channels == 24  # 19.2 would lose over a tenth as 16
    assert [stage.blocks[0].project.conv.out_channels for stage in net.stages.values()] == [
        *(32, 48, 96, 136, 192)
    ]
    assert (net.head.conv.out_channels, net.features.linear.out_features) == (1152, 1536)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"depths": (0, 2)}, r"a stage has at least one block, got depths \(0, 2\)"),
        ({"depths": ()}, r"a stage has at least one block, got depths \(\)"),
        ({"kernels": (3, 4)}, "kernels are odd and positive, got 4"),
        ({"kernels": (-1,)}, "kernels are odd and positive, got -1"),
        ({"expands": (0, 3)}, "expands are positive, got 0"),
        ({"width": 0.0}, "width must be positive, got 0.0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"ofa_mobilenet_v3: {told}"):
        ofa_mobilenet_v3(**options)


def test_a_block_of_fixed_sizes_decides_nothing() -> None:
    net: Any = ElasticInvertedResidual(16, 16, 1, kernel=3, expand=1)
    assert list(net._modules) == ["depthwise", "depthwise_act", "project"]
    assert not space_of(net).choices
    assert freeze(net, {})(torch.zeros(1, 16, 4, 4)).shape == (1, 16, 4, 4)
    with pytest.raises(InvalidSpace, match="no activation named 'swish'"):
        ElasticInvertedResidual(16, 16, 1, kernel=3, expand=2, activation="swish")  # type: ignore[arg-type]


def test_an_elastic_gate_follows_its_channels() -> None:
    width = ValueChoice([72, 96, 144], label="w")
    net = ElasticSqueezeExcite(width).double()
    for channels, squeezed in [(72, 24), (96, 24), (144, 40)]:
        frozen: Any = freeze(net, {"w": channels})
        assert frozen.reduce.weight.shape == (squeezed, channels, 1, 1)
        x = rows(2, channels, 3, 3)
        hidden = frozen.reduce(x.mean((2, 3), keepdim=True)).relu()
        gate = ((frozen.expand(hidden) + 3) / 6).clamp(0, 1)
        torch.testing.assert_close(frozen(x), x * gate)
