"""Starting a layer from a smaller one: the same function, or nothing at all."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.nn import LayerChoice, activate, freeze, space_of
from raynas.nn.operators import OPERATORS
from raynas.supernet.inherit import inherit, spread_weights

Pair = Callable[[], tuple[nn.Module, nn.Module]]
X = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def settled(*nets: nn.Module) -> list[nn.Module]:
    """Float64 nets in evaluation mode whose BatchNorms do more than they do at first."""
    for norm in (m for net in nets for m in net.modules() if isinstance(m, _BatchNorm)):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            if tensor is not None:
                nn.init.normal_(tensor)
        if norm.running_var is not None:
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return [net.double().eval() for net in nets]


def grow(target: nn.Module, source: nn.Module, noise: float = 0.0, seed: int = 0) -> bool:
    return inherit(target, source, noise, torch.Generator().manual_seed(seed))


def assert_same(first: nn.Module, second: nn.Module, x: Tensor = X) -> None:
    """Both compute the same, with BatchNorm's statistics and with the batch's own."""
    with torch.no_grad():
        for mode in (False, True):
            a, b = copy.deepcopy(first).train(mode), copy.deepcopy(second).train(mode)
            torch.testing.assert_close(a(x), b(x), rtol=1e-10, atol=1e-10)


def assert_preserved(pair: Pair, x: Tensor = X) -> None:
    torch.manual_seed(0)
    source, target = settled(*pair())
    before = copy.deepcopy(source)
    with torch.no_grad():
        assert not torch.allclose(source(x), target(x))
    assert grow(target, source)
    assert_same(source, target, x)
    assert_same(source, before, x)


def assert_refused(pair: Pair) -> None:
    torch.manual_seed(0)
    source, target = settled(*pair())
    before = {name: t.clone() for name, t in target.state_dict().items()}
    assert not grow(target, source, noise=0.1)
    assert all(torch.equal(t, before[name]) for name, t in target.state_dict().items())


def block(name: str, channels: int = 4, stride: int = 1) -> nn.Module:
    return OPERATORS[name](4, channels, stride)


WIDER = [f"MB{k}E{e}" for k in (3, 5, 7, 9) for e in (3, 6, 9)]
OTHER = [f"MB{k}E1" for k in (3, 5, 7, 9)]


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (6, 2)])
@pytest.mark.parametrize("name", WIDER)
def test_a_wider_block_computes_what_the_trained_one_does(
    name: str, channels: int, stride: int
) -> None:
    assert_preserved(lambda: (block("MB3E3", channels, stride), block(name, channels, stride)))


@pytest.mark.parametrize("name", OTHER)
def test_a_block_without_expansion_has_other_layers(name: str) -> None:
    assert_refused(lambda: (block("MB3E3"), block(name)))
    assert_refused(lambda: (block(name), block("MB9E3")))


@pytest.mark.parametrize(
    ("source", "target"), [("MB5E3", "MB3E3"), ("MB3E6", "MB3E3"), ("MB3E6", "MB3E9")]
)
def test_a_block_that_is_no_multiple_is_refused(source: str, target: str) -> None:
    assert_refused(lambda: (block(source), block(target)))


class Scaled(nn.Module):
    """A module with children and a weight of its own."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, kernel, padding=kernel // 2)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.scale * self.conv(x)
        return y


def conv(channels_in: int, channels_out: int, kernel: int = 1, **options: object) -> nn.Conv2d:
    options = {"padding": kernel // 2, **options}
    return nn.Conv2d(channels_in, channels_out, kernel, **options)  # type: ignore[arg-type]


def chain(hidden: int, *middle: nn.Module, kernel: int = 1) -> nn.Module:
    return nn.Sequential(conv(4, hidden), *middle, conv(hidden, 5, kernel))


def excited(hidden: int, squeezed: int) -> nn.Module:
    """The layers of squeeze-and-excitation in their order, without the product."""
    inner = (nn.Conv2d(hidden, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, hidden, 1))
    return chain(hidden, nn.AdaptiveAvgPool2d(1), *inner, nn.Sigmoid())


PRESERVED: dict[str, Pair] = {
    "same": lambda: (conv(4, 5, 3, padding="same"), conv(4, 5, 5, padding="same")),
    "same as a number": lambda: (conv(4, 5, 3, padding="same"), conv(4, 5, 7)),
    "valid": lambda: (conv(4, 5, padding="valid"), conv(4, 5, 3)),
    "even": lambda: (conv(4, 5, 2, padding=0), conv(4, 5, 4, padding=1)),
    "dilated": lambda: (
        conv(4, 5, 3, dilation=2, padding=2),
        conv(4, 5, 5, dilation=2, padding=4),
    ),
    "oblong": lambda: (conv(4, 5, 1), nn.Conv2d(4, 5, (1, 5), padding=(0, 2))),
    "strided": lambda: (conv(4, 5, 3, stride=2), conv(4, 5, 5, stride=2)),
    "transposed": lambda: (
        nn.ConvTranspose2d(4, 5, 3, 2, 1),
        nn.ConvTranspose2d(4, 5, 5, 2, 2),
    ),
    "reflected": lambda: (
        conv(4, 5, 3, padding_mode="reflect"),
        conv(4, 5, 5, padding_mode="reflect"),
    ),
    "no affine": lambda: (
        chain(3, nn.BatchNorm2d(3, affine=False)),
        chain(6, nn.BatchNorm2d(6, affine=False)),
    ),
    "no statistics": lambda: (
        chain(3, nn.BatchNorm2d(3, track_running_stats=False)),
        chain(6, nn.BatchNorm2d(6, track_running_stats=False)),
    ),
    "own weight": lambda: (Scaled(3), Scaled(5)),
    "one slope": lambda: (chain(3, nn.PReLU()), chain(6, nn.PReLU())),
    "pooled": lambda: (chain(3, nn.MaxPool2d(3)), chain(9, nn.MaxPool2d(3))),
    "excited": lambda: (excited(4, 2), excited(8, 2)),
    "excited more": lambda: (excited(4, 2), excited(8, 4)),
    "flattened": lambda: (
        nn.Sequential(conv(4, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 81, 5)),
        nn.Sequential(conv(4, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 81, 5)),
    ),
}
REFUSED: dict[str, Pair] = {
    "order": lambda: (
        nn.Sequential(conv(4, 4), nn.BatchNorm2d(4)),
        nn.Sequential(nn.BatchNorm2d(4), conv(4, 4)),
    ),
    "more layers": lambda: (conv(4, 4), nn.Sequential(conv(4, 4), nn.ReLU())),
    "other activation": lambda: (chain(3, nn.ReLU()), chain(3, nn.ReLU6())),
    "output": lambda: (conv(4, 2), conv(4, 4)),
    "input": lambda: (conv(2, 4), conv(4, 4)),
    "off centre": lambda: (conv(4, 4, 3), conv(4, 4, 5, padding=1)),
    "one more": lambda: (conv(4, 4, 3), conv(4, 4, 4, padding=1)),
    "one more, same": lambda: (conv(4, 4, 3, padding="same"), conv(4, 4, 4, padding="same")),
    "one more, dilated": lambda: (
        conv(4, 4, 3, dilation=2, padding=2),
        conv(4, 4, 4, dilation=2, padding=3),
    ),
    "valid": lambda: (conv(4, 4, 3, padding="valid"), conv(4, 4, 5, padding="valid")),
    "padding mode": lambda: (conv(4, 4, 3), conv(4, 4, 3, padding_mode="reflect")),
    "stride": lambda: (conv(4, 4, 3), conv(4, 4, 3, stride=2)),
    "dilation": lambda: (conv(4, 4, 3), conv(4, 4, 3, dilation=2, padding=2)),
    "groups": lambda: (conv(4, 4, 3), conv(4, 4, 3, groups=2)),
    "grouped": lambda: (conv(4, 4, 3, groups=2), chain(4)[0]),  # type: ignore[index]
    "more groups": lambda: (
        chain(4, conv(4, 4, 3, groups=2)),
        chain(8, conv(8, 8, 3, groups=2)),
    ),
    "depthwise": lambda: (conv(4, 4, 3, groups=4), conv(4, 4, 3)),
    "multiplied depthwise": lambda: (conv(4, 4, 3, groups=4), conv(4, 8, 3, groups=4)),
    "bias": lambda: (conv(4, 4, bias=False), conv(4, 4)),
    "no bias": lambda: (conv(4, 4), conv(4, 4, bias=False)),
    "affine": lambda: (nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4)),
    "eps": lambda: (nn.BatchNorm2d(4), nn.BatchNorm2d(4, eps=0.1)),
    "transposed": lambda: (
        chain(3, nn.ConvTranspose2d(3, 3, 3)),
        chain(6, nn.ConvTranspose2d(6, 6, 3)),
    ),
    "pool": lambda: (chain(3, nn.MaxPool2d(3)), chain(3, nn.MaxPool2d(2))),
    "normalised groups": lambda: (
        chain(4, nn.GroupNorm(2, 4, affine=False)),
        chain(8, nn.GroupNorm(2, 8, affine=False)),
    ),
    "slopes": lambda: (chain(3, nn.PReLU(3)), chain(6, nn.PReLU(6))),
}


@pytest.mark.parametrize("pair", PRESERVED.values(), ids=PRESERVED)
def test_layers_that_can_inherit_compute_the_same(pair: Pair) -> None:
    assert_preserved(pair)


@pytest.mark.parametrize("pair", REFUSED.values(), ids=REFUSED)
def test_layers_that_cannot_are_left_alone(pair: Pair) -> None:
    assert_refused(pair)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chains_of_convolutions_inherit_whenever_each_part_can(data: st.DataObject) -> None:
    """A target grown at random computes the same; with one defect it is refused."""
    torch.manual_seed(data.draw(st.integers(0, 99)))
    length = data.draw(st.integers(1, 4))
    defect = data.draw(st.sampled_from([None, None, "stride", "kernel", "channels", "bias"]))
    at = data.draw(st.integers(0, length - 1))
    source, target = list[nn.Module](), list[nn.Module]()
    inputs, times = 4, 1
    for i in range(length):
        outputs, kernel = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 2, 3]))
        more = 1 if i == length - 1 else data.draw(st.integers(1, 3))
        wider = kernel + 2 * data.draw(st.integers(0, 1))
        bias, broken = data.draw(st.booleans()), defect if i == at else None
        grown_bias = bias != (broken == "bias")
        source += [conv(inputs, outputs, kernel, padding=1, bias=bias), nn.BatchNorm2d(outputs)]
        target += [
            conv(
                times * inputs,
                more * outputs + (broken == "channels"),
                wider + (broken == "kernel"),
                padding=1 + (wider - kernel) // 2,
                stride=1 + (broken == "stride"),
                bias=grown_bias,
            ),
            nn.BatchNorm2d(more * outputs + (broken == "channels")),
        ]
        if data.draw(st.booleans()):
            source.append(nn.ReLU6(inplace=True))
            target.append(nn.ReLU6(inplace=True))
        inputs, times = outputs, more
    nets = settled(nn.Sequential(*source), nn.Sequential(*target))
    if defect is None:
        assert grow(nets[1], nets[0])
        assert_same(nets[0], nets[1])
    else:
        assert_refused(lambda: (nets[0], nets[1]))


def test_noise_has_the_stated_deviation() -> None:
    """Each weight's noise, as a share of the weight's deviation, is 0.05.

    A sample deviation of n >= 16,384 numbers varies by 1 / sqrt(2 n) = 0.55 %; 3.3 % is 6 of
    that, and a mean off by 6 standard errors: false alarms 2e-9 for each of 8 figures.
    """
    torch.manual_seed(0)
    source, exact, noisy = (
        nn.Sequential(conv(128, hidden, k), nn.BatchNorm2d(hidden), nn.Linear(hidden, 128))
        for hidden, k in ((128, 1), (256, 3), (256, 3))
    )
    nn.init.normal_(source.get_parameter("1.weight"))
    assert grow(exact, source)
    assert grow(noisy, source, noise=0.05)
    for name, value in exact.named_parameters():
        noise = noisy.get_parameter(name) - value
        if name in ("0.weight", "2.weight"):
            share = (noise.std() / value.std()).item() / 0.05
            assert abs(share - 1) < 6 / math.sqrt(2 * noise.numel())
            assert abs(noise.mean() / noise.std()) < 6 / math.sqrt(noise.numel())
        else:
            assert torch.equal(noise, torch.zeros_like(noise))


def test_noise_is_a_function_of_the_generator() -> None:
    first, again, other = (nn.Linear(4, 4) for _ in range(3))
    source = nn.Linear(4, 4)
    for target, seed in ((first, 1), (again, 1), (other, 2)):
        assert grow(target, source, noise=0.1, seed=seed)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert not torch.equal(first.weight[0], first.weight[1])


class Spread(nn.Module):
    """Three kinds of choice: blocks of which one cannot inherit, a nested one, one unreached."""

    def __init__(self) -> None:
        super().__init__()
        names = ("MB3E3", "MB5E3", "MB3E6", "MB3E1")
        self.blocks = LayerChoice({name: block(name) for name in names})
        self.nested = LayerChoice([self.inner(3), self.inner(5)])

    @staticmethod
    def inner(kernel: int) -> nn.Module:
        return nn.Sequential(conv(4, 4, kernel), LayerChoice([conv(4, 4, 1), conv(4, 4, 3)]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.nested(self.blocks(x))
        return y


def test_spreading_makes_every_candidate_compute_what_the_active_one_does() -> None:
    torch.manual_seed(0)
    net = settled(Spread())[0]
    space = space_of(net)
    first = next(iter(space))
    activate(net, first)
    trained = freeze(net, first)
    assert spread_weights(net, 0.0, torch.Generator()) == ["blocks=MB3E1"]
    for arch in space:
        same = arch["blocks"] != "MB3E1"
        with torch.no_grad():
            assert torch.allclose(trained(X), freeze(net, arch)(X), rtol=0, atol=1e-10) == same


def test_spreading_with_noise_leaves_the_active_candidate_alone() -> None:
    torch.manual_seed(0)
    net = settled(Spread())[0]
    first = next(iter(space_of(net)))
    activate(net, first)
    before = freeze(net, first).state_dict()
    spread_weights(net, 0.1, torch.Generator())
    after = freeze(net, first).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_choice_without_active_candidate_is_left_alone() -> None:
    net = LayerChoice([nn.Linear(2, 2), nn.Linear(2, 2)])
    before = [p.clone() for p in net.parameters()]
    assert spread_weights(net, 0.0, torch.Generator()) == []
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
