"""Laws of every registered operator, published and hand-computed figures, and trying candidates."""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.mobilenetv3 import InvertedResidual as TorchvisionV3
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.shufflenetv2 import InvertedResidual as TorchvisionShuffle

from raynas import describe
from raynas.core.errors import InvalidSpace, UnknownName
from raynas.core.options import options_of
from raynas.nn import Conv2d, LayerChoice, ValueChoice, activate
from raynas.nn.operators import (
    DARTS_PRIMITIVES,
    FBNET_BLOCKS,
    NAS_BENCH_201,
    OPERATORS,
    ChannelShuffle,
    FactorizedReduce,
    InvertedResidual,
    ReLUConvBN,
    SqueezeExcite,
    Zero,
    candidates,
    conv_bn,
)
from raynas.nn.operators.layers import ACTIVATIONS
from raynas.nn.operators.polyphase import PolyphaseConv2d
from raynas.nn.pointwise import PointwiseConv2d
from tests.sampling import Case, representative, sampled

NAMES = sorted(OPERATORS)
ODD_EVEN = ("SHU", "SHX")  # split their channels in two

SHAPE, CHANNELS, DOUBLE, LEARN, POINTWISE = LAWS = range(5)
STRIDED: list[Case] = [*itertools.product(NAMES, [1, 2])]
CHANGED: list[Case] = [
    *itertools.product(NAMES, [(4, 6), (6, 4), (3, 5), (5, 1)], [1, 2, 3]),
]


def kind_and_options(name: str) -> tuple[object, dict[str, Any]]:
    operator = OPERATORS[name]
    if isinstance(operator, partial):
        return operator.func, operator.keywords
    return operator, {}


def shown(law: int) -> Callable[[Case], Iterator[Hashable]]:
    """Return what a case (name, ...) shows of a law.

    That is every option of every kind of operators, and every kind under every further entry of the
    cases; each operator by itself in one of the laws.
    """

    def shows(case: Case) -> Iterator[Hashable]:
        name, *rest = case
        kind, options = kind_and_options(name)
        yield kind
        for option in (*options.items(), *enumerate(rest)):
            yield kind, option
        if NAMES.index(name) % len(LAWS) == law:
            yield name

    return shows


def cases_of(law: int) -> list[Case]:
    return CHANGED if law == CHANNELS else STRIDED


def every_case(law: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "stride"), sampled(cases_of(law), shown(law), law))


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def params(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def settled(layer: nn.Module) -> nn.Module:
    """Give a layer BatchNorm statistics and weights that matter, in float64, for evaluation."""
    rng = torch.Generator().manual_seed(1)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (module.running_mean, -1), (module.running_var, 0.5):
                assert tensor is not None
                tensor.uniform_(low, 2, generator=rng)
            nn.init.uniform_(module.weight, 1, 3, generator=rng)
            nn.init.uniform_(module.bias, -1, 1, generator=rng)
    return layer.double().eval()


def copied(layer: nn.Module, into: nn.Module) -> None:
    """Copy a state tensor by tensor, in order."""
    for to, value in zip(into.state_dict().values(), layer.state_dict().values(), strict=True):
        assert to.shape == value.shape
        to.copy_(value)


def interleaved(x: Tensor) -> Tensor:
    """Deal the two halves of the channels out alternately."""
    return torch.stack(x.chunk(2, 1), 2).flatten(1, 2)


# laws of every operator


def test_the_samples_hold_every_operator_and_show_every_option_under_every_law() -> None:
    samples = {law: representative(cases_of(law), shown(law), law) for law in LAWS}
    assert {name for sample in samples.values() for name, *_ in sample} == set(NAMES)
    for law, sample in samples.items():
        assert len(sample) < len(cases_of(law)) / 3
        for show in (kinds_with_options, kinds_with_entries):
            assert set(show(sample)) == set(show(cases_of(law)))


def kinds_with_options(cases: Iterable[Case]) -> Iterator[Hashable]:
    for name, *_ in cases:
        kind, options = kind_and_options(name)
        yield from ((kind, option) for option in options.items())


def kinds_with_entries(cases: Iterable[Case]) -> Iterator[Hashable]:
    for name, *rest in cases:
        yield from ((kind_and_options(name)[0], entry) for entry in rest)


@every_case(SHAPE)
def test_an_operator_keeps_its_shape_law_and_its_input(name: str, stride: int) -> None:
    layer = OPERATORS[name](4, 4, stride)
    for size in ((8, 8), (9, 7), (2, 3)):
        x = rows(2, 4, *size)
        kept = x.clone()
        out = layer(x)
        assert out.shape == (2, 4, *(math.ceil(n / stride) for n in size))
        assert (out.dtype, out.device) == (x.dtype, x.device)
        assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("name", "channels", "stride"), representative(CHANGED, shown(CHANNELS), CHANNELS)
)
def test_an_operator_changes_the_channels_or_says_that_it_cannot(
    name: str, channels: tuple[int, int], stride: int
) -> None:
    layer = built_or_refused(name, channels, stride)
    if isinstance(layer, str):
        assert f"{channels[0]} -> {channels[1]}" in layer or "stride 1 or 2, got 3" in layer
        assert name not in ALWAYS_BUILT
        return
    for size in (8, 9):
        out = math.ceil(size / stride)
        x = torch.zeros(2, channels[0], size, size)
        assert layer(x).shape == (2, channels[1], out, out)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_an_operator_changes_all_channels_or_says_that_it_cannot(name: str) -> None:
    for case in (case for case in CHANGED if case[0] == name):
        test_an_operator_changes_the_channels_or_says_that_it_cannot(*case)


def built_or_refused(name: str, channels: tuple[int, int], stride: int) -> nn.Module | str:
    try:
        return OPERATORS[name](*channels, stride)
    except InvalidSpace as error:
        return str(error)


ALWAYS_BUILT = {
    *(name for name in NAMES if name.startswith(("MB", "M3B", "NC", "SC", "SS", "DC", "DD", "FC"))),
    *("NIL", "none", "nb201_none", "nb201_nor_conv_3x3", "nb201_avg_pool_3x3", "fbnet_k5_e6"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "fbnet_skip"),
}


@every_case(DOUBLE)
def test_an_operator_is_finite_in_double_and_copies(name: str, stride: int) -> None:
    layer = OPERATORS[name](4, 4, stride).double()
    x = rows(2, 4, 7, 7, dtype=torch.float64)
    twin = copy.deepcopy(layer)
    out = layer(x)
    assert out.dtype == torch.float64
    assert out.isfinite().all()
    assert torch.equal(out, twin(x))
    assert all(value.isfinite().all() for value in layer.state_dict().values())
    assert not {id(p) for p in layer.parameters()} & {id(p) for p in twin.parameters()}


# Of an operator's parameters, those whose gradient is exactly zero: the published ShuffleNetV2
# blocks have no activation behind a depthwise convolution, so that the 1x1 convolution behind it
# makes a constant of its BatchNorm's shift, which the BatchNorm behind that takes out again.
NEVER_LEARN = {
    "SHU": {f"{key}.bias" for key in ("shortcut.1", "branch.4")},
    "SHX": {f"{key}.bias" for key in ("shortcut.1", "branch.1", "branch.6", "branch.11")},
}


@every_case(LEARN)
def test_all_weights_of_an_operator_learn(name: str, stride: int) -> None:
    torch.manual_seed(0)
    layer = OPERATORS[name](4, 4, stride).double()
    at_no_special_point(layer)
    assert idle(layer) == NEVER_LEARN.get(name[:3], set()) & dict(layer.named_parameters()).keys()


def idle(layer: nn.Module) -> set[str]:
    """Return the parameters with an entry whose gradient is zero, up to rounding."""
    weights = dict(layer.named_parameters())
    if not weights:
        return set()
    out = layer(rows(4, 4, 13, 12, dtype=torch.float64))  # every tap of every kernel sees a pixel
    cotangent = rows(*out.shape, seed=1, dtype=torch.float64)
    gradients = torch.autograd.grad((out * cotangent).sum(), [*weights.values()])
    least = {key: g.abs().min() for key, g in zip(weights, gradients, strict=True)}
    return {key for key, smallest in least.items() if smallest < 1e-9}  # others are above 1e-6


def at_no_special_point(layer: nn.Module) -> None:
    """Move parameters from where a weight has no gradient by chance, or by the initial zeros.

    Without a shift before it a ReLU passes a scale on, which the next BatchNorm takes out; a unit
    of a squeeze may be cut off, and a gate saturated, for all images.
    """
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 1, 3)
            nn.init.uniform_(module.bias, -1, 1)
        elif isinstance(module, SqueezeExcite):
            assert module.reduce.bias is not None
            nn.init.constant_(module.reduce.bias, 2.0)
            nn.init.normal_(module.expand.weight, std=0.05)


class Stopped(nn.Module):
    """A broken operator: the weights of half of its channels never learn."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.held = (nn.Conv2d(4, 2, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.free(x), 0 * self.held(x)], 1)


def test_the_law_of_learning_finds_a_zero_gradient() -> None:
    assert idle(Stopped().double()) == {"held.weight", "held.bias"}


class StridedPointwise(TorchDispatchMode):
    """Notes dense 1x1 convolutions at a stride, whose gradients of few channels are faulty."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights: list[torch.Size] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            (_, weight, _, stride), groups = args[:4], args[-1]
            if tuple(weight.shape[2:]) == (1, 1) and set(stride) != {1} and groups == 1:
                self.weights.append(weight.shape)
        return func(*args, **(kwargs or {}))


@every_case(POINTWISE)
def test_no_operator_trains_a_strided_1x1_convolution_of_few_channels(
    name: str, stride: int
) -> None:
    layer = OPERATORS[name](4, 4, stride)
    with StridedPointwise() as convolutions:
        layer(rows(2, 4, 8, 8).contiguous(memory_format=torch.channels_last))
    assert convolutions.weights == []


@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 1)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_pointwise_convolution_is_torch_s(
    stride: Any, size: tuple[int, int], layout: torch.memory_format
) -> None:
    ours, theirs = PointwiseConv2d(3, 5, stride), nn.Conv2d(3, 5, 1, stride, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    x = rows(2, 3, *size).contiguous(memory_format=layout).requires_grad_()
    same = x.detach().double().requires_grad_()
    with StridedPointwise() as convolutions:
        y = ours(x)
    assert convolutions.weights == []
    expected = theirs(same)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6)
    g = rows(*y.shape, seed=1)
    gradients = torch.autograd.grad(y, [x, ours.weight], g)
    others = torch.autograd.grad(expected, [same, theirs.weight], g.double())
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient.double(), other, rtol=1e-5, atol=1e-5)
    assert gradients[0].is_contiguous(memory_format=layout)
    with torch.no_grad(), StridedPointwise() as convolutions:
        torch.testing.assert_close(ours(x), y, rtol=1e-5, atol=1e-6)
    assert convolutions.weights == [ours.weight.shape]  # as it is, where no gradient follows


def test_an_elastic_convolution_of_few_channels_is_computed_without_a_stride() -> None:
    layer = Conv2d(ValueChoice([4, 24], label="in"), 2, ValueChoice([1, 3], label="k"), stride=2)
    for channels, kernel, strided in ((4, 1, 0), (24, 1, 1), (4, 3, 0)):
        activate(layer, {"in": channels, "k": kernel})
        with StridedPointwise() as convolutions:
            out = layer(torch.zeros(2, channels, 8, 8))
        assert len(convolutions.weights) == strided
        assert out.shape[:2] == (2, 2)


def test_operators_are_described_with_their_source() -> None:
    families: dict[object, str] = {}
    for name in NAMES:
        operator = OPERATORS[name]
        families[operator.func if isinstance(operator, partial) else operator] = name
    assert len(families) > 15
    for name in families.values():
        text = describe(name)
        assert text.startswith(f"{name} (operator)")
        assert "arXiv" in text or "MLSys" in text or name == "IDT"


def test_the_names_are_the_documented_ones() -> None:
    inverted = itertools.product(("MB", "M3B"), "3579", "1369", ("", "S", "H", "SH"))
    expected = {
        *(f"{prefix}{k}E{e}{suffix}" for prefix, k, e, suffix in inverted),
        *DARTS_PRIMITIVES,
        *FBNET_BLOCKS,
        *(f"nb201_{name}" for name in NAS_BENCH_201),
        *(f"{kind}{k}" for kind in ("SHU", "SHX") for k in (3, 5, 7, 9)),
        *(
            f"{kind}{k}"
            for kind in ("AP", "MP", "NC", "SC", "SS", "DC", "DD", "FC")
            for k in (3, 5, 7)
        ),
        *("IDT", "NIL", "AVG", "MAX"),
    }
    assert set(NAMES) == expected


def test_the_names_do_not_depend_on_what_is_looked_up_first() -> None:
    code = "from raynas.nn.operators import OPERATORS as o; o['NC3']; o['fbnet_skip']; print(*o)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == NAMES


def test_an_unknown_operator_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="'sep_conv_4x4'; did you mean 'sep_conv_"):
        OPERATORS["sep_conv_4x4"]


# inverted residuals


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("MB", "M3B"))])
def test_parameters_of_an_inverted_residual(name: str) -> None:
    family, rest = name.split("E") if not name.startswith("M3B") else name[1:].split("E")
    kernel, expand = int(family[-1]), int(rest[0])
    hidden = 8 * expand
    expanding = 8 * hidden + 2 * hidden if expand > 1 else 0
    squeezed = {1: 8, 3: 8, 6: 16, 9: 24}[expand]  # 2, 6, 12, 18; 16 would lose a tenth of 18
    gate = hidden * squeezed + squeezed + squeezed * hidden + hidden if "S" in rest else 0
    expected = expanding + kernel**2 * hidden + 2 * hidden + gate + hidden * 16 + 2 * 16
    layer = OPERATORS[name](8, 16, 1)
    assert params(layer) == expected
    acts = {type(m) for m in layer.children()} - {nn.Sequential, SqueezeExcite}
    usual = nn.ReLU if name.startswith("M3B") else nn.ReLU6
    assert acts == {nn.Hardswish if "H" in rest else usual}


def test_the_keys_of_an_inverted_residual_stay() -> None:
    plain = list(OPERATORS["MB3E6"](8, 8, 1).state_dict())
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert plain == [
        f"{part}.{key}"
        for part in ("expand", "depthwise", "project")
        for key in ("conv.weight", *(f"bn.{p}" for p in parts))
    ]
    gated = OPERATORS["MB3E6S"](8, 8, 1)
    assert [n for n, _ in gated.named_children()] == [
        *("expand", "expand_act", "depthwise", "depthwise_act", "squeeze_excite", "project")
    ]
    gate = [f"squeeze_excite.{p}.{key}" for p in ("reduce", "expand") for key in parts[:2]]
    assert [key for key in gated.state_dict() if key not in plain] == gate


@pytest.mark.parametrize("suffix", ["", "S", "H", "SH"])
@pytest.mark.parametrize("expand", [1, 6, 9])
def test_torchvision_s_mobilenet_v3_block_computes_the_same(suffix: str, expand: int) -> None:
    config = InvertedResidualConfig(
        16, 5, 16 * expand, 24, "S" in suffix, "HS" if "H" in suffix else "RE", 2, 1, 1.0
    )
    theirs = settled(TorchvisionV3(config, nn.BatchNorm2d))
    ours = OPERATORS[f"M3B5E{expand}{suffix}"](16, 24, 2).double().eval()
    copied(theirs, ours)
    x = rows(2, 16, 9, 9, dtype=torch.float64)
    out = ours(x)
    assert out.std() > 0.01
    torch.testing.assert_close(out, theirs(x), rtol=1e-11, atol=1e-11)


def test_squeeze_and_excitation_by_hand() -> None:
    layer = SqueezeExcite(2)
    assert params(layer) == 2 * 8 + 8 + 8 * 2 + 2  # hidden channels are 8 at least
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    with torch.no_grad():
        layer.reduce.weight[0] = 1.0
        layer.expand.weight[0, 0] = 1.5
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, -2.0]]]])  # means 2 and -1; their sum is 1
    out = layer(x)
    gates = torch.tensor([1.5 / 6 + 0.5, 0.5]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(out, x * gates)


def test_an_inverted_residual_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InvalidSpace, match=r"2 groups .* 3 -> 4"):
        InvertedResidual(3, 4, 1, kernel=3, expand=1, groups=2)
    wrong: Any = "relu7"
    with pytest.raises(InvalidSpace, match="no activation named 'relu7'; did you mean 'relu"):
        InvertedResidual(4, 4, 1, kernel=3, expand=1, activation=wrong)


# FBNet


def test_parameters_of_the_fbnet_blocks() -> None:
    for name in FBNET_BLOCKS[:-1]:
        kernel, expand, groups = int(name[7]), int(name[10]), 2 if name.endswith("_g2") else 1
        hidden = 8 * expand
        expected = 8 * hidden // groups + hidden * 16 // groups + kernel**2 * hidden
        assert params(OPERATORS[name](8, 16, 2)) == expected + 4 * hidden + 2 * 16
    assert len(FBNET_BLOCKS) == len(set(FBNET_BLOCKS)) == 9


def test_an_fbnet_block_has_its_skip_connection_only_where_the_shape_is_kept() -> None:
    x = rows(2, 8, 6, 6)
    for channels, stride in ((8, 1), (16, 1), (8, 2)):
        block: Any = OPERATORS["fbnet_k3_e3"](8, channels, stride).eval()
        inner = block.body(x)
        expected = inner + x if (channels, stride) == (8, 1) else inner
        assert torch.equal(block(x), expected)
    assert isinstance(OPERATORS["fbnet_skip"](8, 8, 1), nn.Identity)
    for channels, stride in ((16, 1), (8, 2)):
        skip = OPERATORS["fbnet_skip"](8, channels, stride)
        assert params(skip) == 8 * channels + 2 * channels
        assert (skip(x) >= 0).all()


def test_a_grouped_fbnet_block_mixes_its_groups() -> None:
    def reach(layer: nn.Module) -> list[int]:
        """Return which output channels a change of the first input channel reaches."""
        x = rows(1, 8, 5, 5, dtype=torch.float64)
        changed = x.clone()
        changed[:, 0] += 1
        difference = (layer(changed) - layer(x)).abs().amax((0, 2, 3))
        return [i for i, amount in enumerate(difference.tolist()) if amount]

    block: Any = OPERATORS["fbnet_k3_e1_g2"](8, 10, 1).double().eval()
    block.body.expand_act = block.body.depthwise_act = nn.Identity()  # nothing is cut off
    assert reach(block) == list(range(10))
    block.body.shuffle = nn.Identity()
    assert reach(block) == list(range(5))


def test_a_channel_shuffle_deals_out() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert ChannelShuffle(3)(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]


# doing nothing, passing on, halving


@pytest.mark.parametrize("name", ["NIL", "none", "nb201_none"])
def test_zeros_come_from_nothing(name: str) -> None:
    layer = OPERATORS[name](3, 5, 2)
    assert isinstance(layer, Zero)
    assert not layer.state_dict()
    for bad in (math.nan, math.inf, -math.inf):
        x = torch.full((2, 3, 7, 4), bad, requires_grad=True)
        out = layer(x)
        assert torch.equal(out, torch.zeros(2, 5, 4, 2))
        assert not out.requires_grad
        (grad,) = torch.autograd.grad((out.mean() + x[0, 0, 0, 0] * 0), x)
        assert not grad[1].any()
    assert layer(torch.zeros(1, 3, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert layer(torch.zeros(1, 3, 4, 4, device="meta")).device.type == "meta"


def test_idt_is_the_identity_or_the_cheapest_change() -> None:
    x = rows(2, 4, 6, 6)
    same = OPERATORS["IDT"](4, 4, 1)
    assert same(x) is x
    assert not same.state_dict()
    wider = OPERATORS["IDT"](4, 6, 1)
    assert wider(x).shape == (2, 6, 6, 6)  # and not half as large
    assert params(wider) == 4 * 6 + 2 * 6
    halved = OPERATORS["IDT"](4, 6, 2)
    assert isinstance(halved, FactorizedReduce)
    assert params(halved) == 4 * 6 + 2 * 6
    assert not halved.eval()(-x.abs()).any()  # a ReLU before it
    with pytest.raises(InvalidSpace, match="stride 1 or 2, got 3"):
        OPERATORS["IDT"](4, 4, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 5), (6, 7), (8, 8)])
@pytest.mark.parametrize("channels", [(4, 1), (3, 5), (5, 4), (1, 1)])
def test_a_factorized_reduce_of_any_size_and_any_channels(
    channels: tuple[int, int], size: tuple[int, int]
) -> None:
    layer = FactorizedReduce(*channels, affine=False)
    x = rows(3, channels[0], *size)
    assert layer(x).shape == (3, channels[1], (size[0] + 1) // 2, (size[1] + 1) // 2)
    assert params(layer) == channels[0] * channels[1]


def test_a_factorized_reduce_reads_even_and_odd_pixels() -> None:
    layer: Any = FactorizedReduce(1, 2, affine=False).eval()
    layer.bn = nn.Identity()
    for conv in (layer.conv_even, layer.conv_odd):
        nn.init.ones_(conv.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4) - 5
    even, odd = layer(x)[0].tolist()
    assert even == [[0, 0], [3, 5]]  # -5, -3, 3, 5 after the ReLU
    assert odd == [[0, 2], [8, 10]]
    even, odd = layer(x[:, :, :3, :3])[0].tolist()
    assert even == [[0, 0], [3, 5]]
    assert odd == [[0, 0], [0, 0]]  # 0, and padding where the size is odd


def test_a_factorized_reduce_keeps_the_layout_in_the_backward_pass() -> None:
    x = rows(2, 3, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    FactorizedReduce(3, 4, relu=False)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


# DARTS


def test_parameters_of_the_darts_primitives() -> None:
    c = 16
    for kernel in (3, 5):
        depthwise = kernel**2 * c
        sep, dil = (OPERATORS[f"{kind}_conv_{kernel}x{kernel}"] for kind in ("sep", "dil"))
        assert params(sep(c, c, 1)) == 2 * (depthwise + c * c)
        assert params(sep(c, c, 1, affine=True)) == 2 * (depthwise + c * c + 2 * c)
        assert params(sep(c, 24, 2)) == 2 * depthwise + c * c + c * 24
        assert params(dil(c, c, 2)) == depthwise + c * c
        assert params(dil(c, 24, 1, affine=True)) == depthwise + c * 24 + 2 * 24
    assert params(OPERATORS["skip_connect"](c, c, 2)) == c * c
    assert params(OPERATORS["skip_connect"](c, c, 2, affine=True)) == c * c + 2 * c
    for pool in ("max_pool_3x3", "avg_pool_3x3"):
        assert params(OPERATORS[pool](c, c, 1)) == 0
        assert params(OPERATORS[pool](c, c, 1, affine=True)) == 2 * c
        assert not OPERATORS[pool](c, c, 1, pool_bn=False).state_dict()


def test_the_darts_supernet_has_the_published_size() -> None:
    """1.930618 million weights at C=16, L=8, as the authors' search prints."""
    total = params(nn.Sequential(conv_bn(3, 48, 3))) + 256 * 10 + 10
    before, last, channels, halved = 48, 48, 16, False
    for layer in range(8):
        reduction = layer in (8 // 3, 2 * 8 // 3)
        channels *= 2 if reduction else 1
        first = FactorizedReduce if halved else ReLUConvBN
        total += params(first(before, channels, affine=False))
        total += params(ReLUConvBN(last, channels, affine=False))
        for node, source in ((n, s) for n in range(4) for s in range(2 + n)):
            stride = 2 if reduction and source < 2 else 1
            assert node < 4
            total += sum(params(OPERATORS[p](channels, channels, stride)) for p in DARTS_PRIMITIVES)
        before, last, halved = last, 4 * channels, reduction
    assert total == 1_930_618


def test_the_darts_primitives_in_order_all_take_affine() -> None:
    assert (
        *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
        *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
    ) == DARTS_PRIMITIVES
    for name in DARTS_PRIMITIVES:
        assert options_of(OPERATORS[name])["affine"].default is False
        for affine in (False, True):
            layer = OPERATORS[name](4, 4, 2, affine=affine)
            norms = [m.affine for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
            assert set(norms) <= {affine}
            assert bool(norms) == (name != "none")


def test_the_taps_of_the_separable_convolutions() -> None:
    def convs(name: str) -> list[tuple[Any, ...]]:
        layer = OPERATORS[name](4, 4, 2)
        convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
        return [(m.kernel_size[0], m.stride[0], m.dilation[0], m.groups) for m in convolutions]

    pointwise = (1, 1, 1, 1)
    assert convs("sep_conv_5x5") == [(5, 2, 1, 4), pointwise, (5, 1, 1, 4), pointwise]
    assert convs("dil_conv_5x5") == [(5, 2, 2, 4), pointwise]
    assert convs("DD3") == [(3, 2, 3, 4), pointwise]


def is_polyphase(y: Tensor) -> bool:
    """Return whether a convolution's gradients will be computed without dilation."""
    assert y.grad_fn is not None
    return "ConvolutionBackward0" not in y.grad_fn.name()


@pytest.mark.parametrize("size", [(8, 8), (6, 4), (2, 2), (7, 8), (5, 5)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_polyphase_convolution_is_the_dilated_one(
    kernel: int, stride: int, size: tuple[int, int]
) -> None:
    ours = PolyphaseConv2d(3, kernel, stride).double()
    theirs = nn.Conv2d(3, 3, kernel, stride, kernel // 2 * 2, 2, groups=3, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    for layout in torch.channels_last, torch.contiguous_format:
        x = rows(2, 3, *size, dtype=torch.float64).contiguous(memory_format=layout)
        x.requires_grad_()
        y, expected = ours(x), theirs(x)
        assert torch.equal(y, expected)
        assert is_polyphase(y) == (layout == torch.channels_last)
        assert y.is_contiguous(memory_format=layout)
        g = rows(*y.shape, seed=1, dtype=torch.float64)
        gradients = torch.autograd.grad(y, [x, ours.weight], g)
        others = torch.autograd.grad(expected, [x, theirs.weight], g)
        torch.testing.assert_close(gradients, others, rtol=1e-12, atol=1e-12)
        assert gradients[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_polyphase_convolution_is_differentiable_twice(stride: int) -> None:
    layer = PolyphaseConv2d(2, 3, stride).double()
    x = rows(1, 2, 4, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        y: Tensor = functional_call(layer, {"weight": weight}, (x,))
        return y

    inputs = (x.requires_grad_(), layer.weight)
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_the_weight_s_gradient_is_computed_only_where_it_is_asked_for() -> None:
    x = rows(2, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer = PolyphaseConv2d(4, 3)
    y, computed = layer(x), list[object]()
    for node, _ in y.grad_fn.next_functions:
        if node is not None and "WeightGradient" in node.name():
            node.register_prehook(computed.append)
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert not computed
    y.sum().backward()
    assert len(computed) == 1
    assert layer.weight.grad is not None


def test_a_dilated_convolution_under_autocast_stays_with_its_guard() -> None:
    x = rows(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_polyphase(PolyphaseConv2d(4, 3)(x))


@pytest.mark.parametrize("name", ["avg_pool_3x3", "nb201_avg_pool_3x3", "AVG", "AP5"])
def test_an_average_does_not_count_the_padding(name: str) -> None:
    out = OPERATORS[name](2, 2, 1).eval()(torch.ones(1, 2, 4, 4))
    torch.testing.assert_close(out, torch.ones(1, 2, 4, 4), rtol=1e-4, atol=0)  # BatchNorm's eps


@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3", "MAX", "AVG", "AP7", "MP5"])
def test_a_pool_refuses_other_channels(name: str) -> None:
    for stride in (1, 2):
        with pytest.raises(InvalidSpace, match="as many output as input channels, got 4 -> 6"):
            OPERATORS[name](4, 6, stride)


def test_a_skip_connection_refuses_other_channels_at_stride_1() -> None:
    with pytest.raises(InvalidSpace, match=r"skip_connect at stride 1 .* got 4 -> 6"):
        OPERATORS["skip_connect"](4, 6, 1)
    assert OPERATORS["skip_connect"](4, 6, 2)(rows(2, 4, 5, 5)).shape == (2, 6, 3, 3)


# NAS-Bench-201


def test_the_nas_bench_201_network_has_the_published_size() -> None:
    """73,306 parameters, 243,040 more a 3x3 edge and 28,000 more a 1x1 edge, at C=16, N=5."""

    def edge(name: str) -> int:
        return sum(5 * params(NAS_BENCH_201[name](c, c, 1)) for c in (16, 32, 64))

    counts = {name: edge(name) for name in NAS_BENCH_201}
    assert counts == {
        "none": 0,
        "skip_connect": 0,
        "nor_conv_1x1": 28_000,
        "nor_conv_3x3": 243_040,
        "avg_pool_3x3": 0,
    }
    for kernel in (1, 3):
        layer = OPERATORS[f"nb201_nor_conv_{kernel}x{kernel}"](16, 16, 1)
        assert params(layer) == kernel**2 * 16 * 16 + 2 * 16
        assert [type(m) for m in layer.children()] == [nn.ReLU, nn.Conv2d, nn.BatchNorm2d]


def test_the_nas_bench_201_operators_differ_from_darts_ones() -> None:
    assert all(OPERATORS[f"nb201_{name}"] is NAS_BENCH_201[name] for name in NAS_BENCH_201)
    assert isinstance(NAS_BENCH_201["avg_pool_3x3"](4, 4, 2), nn.AvgPool2d)
    assert params(NAS_BENCH_201["avg_pool_3x3"](4, 6, 1)) == 4 * 6 + 2 * 6
    assert isinstance(NAS_BENCH_201["skip_connect"](4, 4, 1), nn.Identity)
    for stride in (1, 2):
        skip = NAS_BENCH_201["skip_connect"](4, 6, stride)
        assert params(skip) == 4 * 6 + 2 * 6
        assert params(NAS_BENCH_201["skip_connect"](4, 6, stride, affine=False)) == 4 * 6
    for operator in NAS_BENCH_201.values():
        assert options_of(operator)["affine"].default is True


# ShuffleNetV2


def test_torchvision_s_shufflenet_block_computes_the_same() -> None:
    for channels, stride in ((12, 1), (6, 2)):
        theirs = settled(TorchvisionShuffle(channels, 12, stride))
        ours: Any = OPERATORS["SHU3"](channels, 12, stride).double().eval()
        copied(theirs.get_submodule("branch2"), ours.branch)
        if stride == 2:
            copied(theirs.get_submodule("branch1"), ours.shortcut)
        x = rows(2, channels, 7, 7, dtype=torch.float64)
        # theirs shuffles at the end of a block, ours while it splits at the beginning
        out = ours(interleaved(x) if stride == 1 else x)
        assert out.std() > 0.01
        torch.testing.assert_close(interleaved(out), theirs(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
def test_parameters_of_the_shufflenet_blocks(kernel: int) -> None:
    k = kernel**2

    def dw(channels: int) -> int:
        return k * channels + 2 * channels

    def pw(channels_in: int, channels_out: int) -> int:
        return channels_in * channels_out + 2 * channels_out

    plain, xception = OPERATORS[f"SHU{kernel}"], OPERATORS[f"SHX{kernel}"]
    # stage 2 of SPOS: 16 of 64 channels come from the shortcut, the branch has 32 inside
    shortcut = dw(16) + pw(16, 16)
    assert params(plain(16, 64, 2)) == shortcut + pw(16, 32) + dw(32) + pw(32, 48)
    three_pairs = dw(16) + pw(16, 32) + dw(32) + pw(32, 32) + dw(32) + pw(32, 48)
    assert params(xception(16, 64, 2)) == shortcut + three_pairs
    assert params(plain(64, 64, 1)) == pw(32, 32) + dw(32) + pw(32, 32)
    assert params(xception(64, 64, 1)) == 3 * (dw(32) + pw(32, 32))


def test_half_of_the_channels_pass_a_shufflenet_block() -> None:
    x = rows(2, 6, 5, 5)
    for name in ("SHU3", "SHX3"):
        assert torch.equal(OPERATORS[name](6, 8, 1)(x)[:, :3], x[:, ::2])


@pytest.mark.parametrize(
    ("channels", "said"), [((5, 4), "even"), ((4, 5), "even"), ((8, 4), "4 channels pass")]
)
def test_a_shufflenet_block_refuses_what_it_cannot_split(
    channels: tuple[int, int], said: str
) -> None:
    with pytest.raises(InvalidSpace, match=f"{channels[0]} -> {channels[1]} .*{said}"):
        OPERATORS["SHU3"](*channels, 1)


# ModularNAS


def test_parameters_of_the_modular_nas_operators() -> None:
    for k in (3, 5, 7):
        depthwise = k**2 * 8
        expected = {
            f"AP{k}": 2 * 8,
            f"MP{k}": 2 * 8,
            f"NC{k}": 8 * 8 * k**2 + 2 * 8,
            f"SS{k}": depthwise + 8 * 8 + 2 * 8,
            f"SC{k}": 2 * (depthwise + 8 * 8 + 2 * 8),
            f"DC{k}": depthwise + 8 * 8 + 2 * 8,
            f"DD{k}": depthwise + 8 * 8 + 2 * 8,
            f"FC{k}": 2 * k * 8 * 8 + 2 * 8,
        }
        assert {name: params(OPERATORS[name](8, 8, 2)) for name in expected} == expected
    assert params(OPERATORS["SC3"](8, 12, 1)) == 2 * (9 * 8 + 2 * 8) + 8 * 8 + 8 * 12
    assert params(OPERATORS["AVG"](8, 8, 1)) == params(OPERATORS["MAX"](8, 8, 1)) == 2 * 8


@pytest.mark.parametrize(
    ("order", "kinds", "normed"),
    [
        ("bn_act_weight", ["BatchNorm2d", "ReLU", "Conv2d"], [4]),
        ("weight_bn_act", ["Conv2d", "BatchNorm2d", "ReLU"], [6]),
        ("act_weight_bn", ["ReLU", "Conv2d", "BatchNorm2d"], [6]),
        ("weight_bn", ["Conv2d", "BatchNorm2d"], [6]),
        ("weight", ["Conv2d"], []),
    ],
)
def test_the_order_of_a_convolution(order: str, kinds: list[str], normed: list[int]) -> None:
    layer = OPERATORS["NC3"](4, 6, 1, order=order)
    assert [type(m).__name__ for m in layer.children()] == kinds
    assert [m.num_features for m in layer.modules() if isinstance(m, nn.BatchNorm2d)] == normed
    for name in ("NC3", "SS3", "SC3", "FC3"):
        x = rows(2, 4, 5, 5)
        kept = x.clone()
        assert OPERATORS[name](4, 6, 2, order=order)(x).shape == (2, 6, 3, 3)
        assert torch.equal(x, kept)


@pytest.mark.parametrize("order", ["bn_act", "bn_relu_weight", "weight_weight", ""])
def test_an_order_that_is_none(order: str) -> None:
    with pytest.raises(InvalidSpace, match=f"expected 'weight' .* got '{order}'"):
        OPERATORS["NC3"](4, 4, 1, order=order)


# candidates of a slot


def test_candidates_are_built_in_order_with_the_weights_of_plain_building() -> None:
    names = [name for name in NAMES if not name.startswith(ODD_EVEN)]
    torch.manual_seed(3)
    plain = {name: OPERATORS[name](4, 4, 2) for name in names}
    state = torch.get_rng_state()
    torch.manual_seed(3)
    built = candidates(names, 4, 4, 2, where="slot")
    assert torch.equal(torch.get_rng_state(), state)
    assert list(built) == names
    for name, layer in built.items():
        expected = plain[name].state_dict()
        assert list(layer.state_dict()) == list(expected)
        assert all(torch.equal(value, expected[key]) for key, value in layer.state_dict().items())
        assert all(m.training for m in layer.modules())
        assert all(p.grad is None for p in layer.parameters())


def test_operators_may_be_given_as_a_table() -> None:
    affine = {name: partial(OPERATORS[name], affine=True) for name in ("none", "sep_conv_3x3")}
    assert params(candidates(affine, 4, 4, 1, where="e")["sep_conv_3x3"]) == 2 * (36 + 16 + 8)
    built = candidates(NAS_BENCH_201, 4, 4, 1, where="edge")
    assert list(built) == list(NAS_BENCH_201)


def refusal(names: Any, channels_in: int, channels_out: int, stride: int) -> str:
    """Return what candidates says when it refuses, which it must, at a slot called stage2/b1."""
    with pytest.raises(InvalidSpace) as caught:
        candidates(names, channels_in, channels_out, stride, where="stage2/b1")
    text = str(caught.value)
    assert text.startswith("stage2/b1: candidate ")
    return text


def test_a_candidate_that_cannot_be_built_is_told_with_its_slot() -> None:
    told = refusal(["MB3E3", "AVG"], 4, 6, 1)
    assert "'AVG' cannot be built for 4 -> 6 channels at stride 1: " in told
    assert "as many output as input channels" in told
    assert "'SHU3' cannot be built for 5 -> 4" in refusal(["SHU3"], 5, 4, 1)
    assert "'grouped' cannot be built" in refusal({"grouped": grouped}, 4, 4, 1)
    assert "'MB3E3' is named twice" in refusal(["MB3E3", "MB5E3", "MB3E3"], 4, 4, 1)
    assert "must be an nn.Module, got a int" in refusal({"x": lambda *_: 3}, 4, 4, 1)
    with pytest.raises(UnknownName, match="'MB3E4'; did you mean"):
        candidates(["MB3E4"], 4, 4, 1, where="stage2/b1")


def grouped(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, 3, stride, groups=3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda i, o, s: nn.Conv2d(i, o, 3, s), r"makes \(2, 4, 3, 3\) .*expected \(2, 4, 4, 4\)"),
        (lambda i, o, s: nn.Conv2d(i, o + 1, 3, s, 1), r"makes \(2, 5, 4, 4\)"),
        (lambda *_: nn.Identity(), r"makes \(2, 4, 8, 8\)"),
        (lambda i, o, s: nn.Conv2d(i + 1, o, 3, s, 1), "fails on an input of .* channels"),
        (lambda *_: nn.LSTM(8, 8), "fails on an input of"),
        (lambda *_: Pair(), "makes tuple of"),
    ],
)
def test_a_candidate_of_the_wrong_shape_is_told(make: Callable[..., nn.Module], said: str) -> None:
    told = refusal({"odd_one": make}, 4, 4, 2)
    assert "candidate 'odd_one', built for 4 -> 4 channels at stride 2, " in told
    with pytest.raises(InvalidSpace, match=said):
        candidates({"odd_one": make}, 4, 4, 2, where="slot")


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_trying_a_candidate_leaves_no_trace() -> None:
    seen: list[Tensor] = []

    class Noisy(nn.Module):
        def __init__(self, channels: Iterable[int]) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(max(channels))
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            out: Tensor = self.drop(self.bn(x + torch.rand(1)))
            return out

    before = torch.get_rng_state()
    layer = candidates({"noisy": lambda *shape: Noisy(shape[:2])}, 4, 4, 1, where="s")["noisy"]
    assert len(seen) == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert int(layer.state_dict()["bn.num_batches_tracked"]) == 0
    assert not layer.state_dict()["bn.running_mean"].any()


def test_a_candidate_with_choices_of_its_own_is_not_tried() -> None:
    def nested(*shape: int) -> nn.Module:
        return LayerChoice(candidates(["MB3E3", "NIL"], *shape, where="inner"), label="inner")

    assert isinstance(candidates({"nested": nested}, 4, 4, 1, where="s")["nested"], LayerChoice)


def test_a_skeleton_of_candidates_takes_no_memory() -> None:
    with torch.device("meta"):
        built = candidates(["MB3E6SH", "IDT", "NIL", "SHX3"], 4, 6, 2, where="s")
    devices = {t.device.type for m in built.values() for t in m.state_dict().values()}
    assert devices == {"meta"}


def test_the_activations_overwrite_and_agree_with_torch() -> None:
    x = rows(50)
    for name, function in {
        "relu6": nn.functional.relu6,
        "relu": nn.functional.relu,
        "hswish": nn.functional.hardswish,
    }.items():
        torch.testing.assert_close(ACTIVATIONS[name]()(x.clone()), function(x))
