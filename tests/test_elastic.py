"""Layers with values for arguments: their slices, their plain forms, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.errors import InvalidSpace
from raynas.nn import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    LayerChoice,
    LayerNorm,
    Linear,
    MultiheadAttention,
    Parametrized,
    Repeat,
    ValueChoice,
    activate,
    freeze,
    space_of,
)
from raynas.supernet.calibration import calibrated, recalibrate
from tests.laws import keeps_the_laws


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


W = ValueChoice([4, 6, 8], label="w")
K = ValueChoice([3, 5, 7], label="k")
H = ValueChoice([1, 2], label="h")


class Sized(nn.Module):
    """A layer behind one that gives it as many channels as the architecture says."""

    def __init__(self, before: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.before: Any = before
        self.layer: Any = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(self.before(x))


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: Linear(3, W), rows(2, 3)),
        (lambda: Sized(Linear(3, W), Linear(W, W * 2, bias=False)), rows(2, 3)),
        (lambda: Sized(Conv2d(3, W, 1), Conv2d(W, 5, K, padding=K // 2)), rows(2, 3, 6, 6)),
        (lambda: Sized(Conv2d(3, W, 1), Conv2d(W, W, 3, groups=W, bias=False)), rows(2, 3, 6, 6)),
        (lambda: Sized(Conv2d(3, W, 1), Conv2d(W, W * 2, 3, groups=2)), rows(2, 3, 6, 6)),
        (lambda: Conv2d(4, 8, 3, groups=ValueChoice([1, 2, 4], label="g")), rows(2, 4, 6, 6)),
        (
            lambda: Conv2d(3, 5, 3, stride=ValueChoice([1, 2]), dilation=ValueChoice([1, 2])),
            rows(2, 3, 9, 9),
        ),
        (lambda: Conv2d(3, 5, K, padding=K // 2, kernel_transform=True), rows(2, 3, 6, 6)),
        (lambda: Sized(Conv2d(3, W, 1), BatchNorm2d(W)), rows(2, 3, 6, 6)),
        (lambda: Sized(Linear(3, W), BatchNorm1d(W, affine=False)), rows(5, 3)),
        (lambda: Sized(Linear(3, W), BatchNorm1d(W, track_running_stats=False)), rows(5, 3)),
        (lambda: Sized(Linear(3, W), LayerNorm(W)), rows(2, 3)),
        (lambda: Sized(Linear(3, W), LayerNorm((2, W), bias=False)), rows(5, 2, 3)),
        (lambda: Parametrized(nn.Hardtanh, min_val=-1.0, max_val=W), rows(2, 3)),
    ],
)
def test_frozen_is_activated(make: Callable[[], nn.Module], x: Tensor) -> None:
    net = make().double()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
    keeps_the_laws(net, x)
    plain = freeze(net, space_of(net).sample(np.random.default_rng(1)))
    assert {type(m).__module__.split(".")[0] for m in plain.modules()} <= {"torch", "tests"}


def test_smaller_layers_take_the_first_channels() -> None:
    net = Linear(W, W * 2).double()
    activate(net, {"w": 4})
    x = rows(2, 4)
    assert torch.equal(net(x), functional.linear(x, net.weight[:8, :4], net.bias[:8]))


def test_smaller_kernels_are_the_centre_of_the_larger() -> None:
    net = Conv2d(3, 2, K, padding=K // 2).double()
    x = rows(1, 3, 8, 8)
    activate(net, {"k": 5})
    expected = functional.conv2d(x, net.weight[:, :, 1:6, 1:6], net.bias, padding=2)
    assert torch.equal(net(x), expected)


def test_kernel_transforms_start_as_the_identity_and_go_one_after_the_other() -> None:
    net: Any = Conv2d(3, 2, K, padding=K // 2, kernel_transform=True).double()
    x = rows(1, 3, 8, 8)
    assert {n for n, _ in net.named_parameters()} == {
        "weight",
        "bias",
        "transform_7to5",
        "transform_5to3",
    }
    activate(net, {"k": 3})
    centre = net.weight[:, :, 2:5, 2:5]
    assert torch.equal(net(x), functional.conv2d(x, centre, net.bias, padding=1))
    with torch.no_grad():
        net.transform_7to5.normal_()
        net.transform_5to3.normal_()
    five = (net.weight[:, :, 1:6, 1:6].reshape(2, 3, 25) @ net.transform_7to5.T).view(2, 3, 5, 5)
    three = (five[:, :, 1:4, 1:4].reshape(2, 3, 9) @ net.transform_5to3.T).view(2, 3, 3, 3)
    torch.testing.assert_close(net(x), functional.conv2d(x, three, net.bias, padding=1))
    net(x).sum().backward()
    assert net.transform_7to5.grad is not None  # 3 comes from 5, which comes from 7
    activate(net, {"k": 7})
    assert torch.equal(net(x), functional.conv2d(x, net.weight, net.bias, padding=3))


def test_gradients_reach_only_active_weights() -> None:
    net = Sized(Conv2d(3, W, K, padding=K // 2), BatchNorm2d(W)).double()
    activate(net, {"w": 4, "k": 3})
    net(rows(2, 3, 6, 6)).square().sum().backward()
    conv, norm = net.before, net.layer
    active = conv.weight.grad != 0
    assert active[:4, :, 2:5, 2:5].all()
    assert int(active.sum()) == 4 * 3 * 9
    assert norm.bias.grad[4:].eq(0).all()


def test_training_moves_only_the_active_channels_statistics() -> None:
    norm: Any = BatchNorm2d(W).double().train()
    plain: Any = nn.BatchNorm2d(4).double().train()
    activate(norm, {"w": 4})
    x = rows(3, 4, 5, 5) + 2
    assert torch.equal(norm(x), plain(x))
    assert torch.equal(norm.running_mean[:4], plain.running_mean)
    assert norm.running_mean[4:].eq(0).all()
    assert norm.num_batches_tracked == 1
    averaged: Any = BatchNorm2d(W, momentum=None)
    theirs: Any = nn.BatchNorm2d(4, momentum=None)
    activate(averaged, {"w": 4})
    for step in range(3):
        averaged(x.float() * step)
        theirs(x.float() * step)
    assert torch.equal(averaged.running_var[:4], theirs.running_var)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_attention(batch_first: bool, bias: bool) -> None:
    def net() -> nn.Module:
        attend = MultiheadAttention(W, H, bias=bias, batch_first=batch_first)
        return Sized(Linear(3, W), Attend(attend)).double()

    keeps_the_laws(net(), rows(2, 5, 3))


class Attend(nn.Module):
    def __init__(self, attend: nn.Module) -> None:
        super().__init__()
        self.attend: Any = attend

    def forward(self, x: Tensor) -> Any:
        return self.attend(x, x, x)


def test_attention_takes_its_share_of_each_projection() -> None:
    attend = MultiheadAttention(W, 2, batch_first=True).double()
    activate(attend, {"w": 4})
    plain = nn.MultiheadAttention(4, 2, batch_first=True).double()
    with torch.no_grad():
        three = attend.in_proj_weight.view(3, 8, 8)[:, :4, :4]
        plain.in_proj_weight.copy_(three.reshape(12, 4))
        plain.out_proj.weight.copy_(attend.out_proj.weight[:4, :4])
    x = rows(2, 5, 4)
    mask = torch.tensor([[False] * 5, [False, False, True, True, True]])
    for ours, theirs in zip(
        attend(x, x, x, key_padding_mask=mask), plain(x, x, x, key_padding_mask=mask), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_elastic_batch_norm_is_calibrated_like_a_plain_one() -> None:
    layers = [Conv2d(3, W, K, padding=K // 2), BatchNorm2d(W), nn.ReLU(), Conv2d(W, 2, 1)]
    net: Any = nn.Sequential(*layers).double().eval()
    images, tests = rows(7, 3, 6, 6), rows(4, 3, 6, 6) + 1
    plain = freeze(net, {"w": 6, "k": 5})
    recalibrate(plain, images)
    calibration = calibrated(net)
    activate(net, {"w": 6, "k": 5})
    calibration.begin(7)
    with torch.inference_mode():
        out = net(torch.cat([images, tests]))[7:]
    torch.testing.assert_close(out, plain.eval()(tests), rtol=1e-12, atol=1e-12)
    assert net[1].running_mean.eq(0).all()


def test_width_and_depth_together() -> None:
    net = nn.Sequential(
        Linear(3, W),
        Repeat(lambda _: nn.Sequential(Linear(W, W), nn.Tanh()), (0, 3), label="depth"),
        Linear(W, 2),
    ).double()
    assert space_of(net).size() == 3 * 4
    keeps_the_laws(net, rows(5, 3))


def test_unlabelled_values_are_named_by_layer_and_argument() -> None:
    free = ValueChoice([2, 3])
    net = nn.Sequential(Linear(3, free), nn.Sequential(Linear(free, ValueChoice([4, 5]))))
    assert space_of(net).labels == ("0.out_features", "1.0.out_features")
    keeps_the_laws(net.double(), rows(5, 3))


def test_without_values_a_layer_is_ready() -> None:
    layer = Linear(3, 2).double()
    x = rows(2, 3)
    assert torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias))
    assert type(freeze(layer, {})) is nn.Linear
    with pytest.raises(RuntimeError, match=r"Linear.*'w'.*activate"):
        Linear(W, 2)(x)


def test_tied_weights_stay_tied_where_all_of_them_is_taken() -> None:
    net = nn.Sequential(Linear(4, 4), Linear(4, 4), nn.Tanh())
    net[1].weight = net[0].weight
    plain: Any = freeze(net, {})
    assert plain[0].weight is plain[1].weight


def test_any_layer_may_be_parametrized() -> None:
    def linear(k: int, act: Callable[[], nn.Module], sizes: list[int]) -> nn.Module:
        inner = LayerChoice({"a": act(), "b": nn.Linear(3 + sizes[0], 3 + sizes[0])})
        return nn.Sequential(nn.Linear(3, 3 + sizes[0]), inner, nn.Linear(3 + sizes[0], k))

    layer = Parametrized(linear, k=2, act=nn.Tanh, sizes=[ValueChoice([1, 2]), 0]).double()
    net = nn.Sequential(layer, nn.Identity())
    assert space_of(net).labels[0] == "0.sizes"
    assert space_of(net).size() == 2 + 2
    assert all("0x" not in key for key in net.state_dict())  # keys are the same in every process
    keeps_the_laws(net, rows(4, 3))
    assert type(freeze(Parametrized(nn.ReLU), {})) is nn.ReLU


def test_freezing_draws_nothing_and_keeps_ties() -> None:
    attend = MultiheadAttention(W, 2).double()
    twin = MultiheadAttention(W, 2).double()
    twin.in_proj_weight = attend.in_proj_weight
    net = nn.ModuleList([attend, twin])
    before = torch.get_rng_state()
    plain: Any = freeze(net, {"w": 8})
    assert torch.equal(torch.get_rng_state(), before)
    assert plain[0].in_proj_weight is plain[1].in_proj_weight
    assert freeze(net, {"w": 4})[0].in_proj_weight.shape == (12, 4)  # type: ignore[index]


def test_a_printed_layer_tells_its_arguments() -> None:
    shown = repr(Conv2d(3, W, 3, stride=2, padding=1))
    assert "out_channels=ValueChoice('w')" in shown
    assert "stride=2, padding=1" in shown
    assert Conv2d(3, 4, 3, stride=2).stride == (2, 2)
    assert "label='here'" in repr(LayerChoice([nn.Tanh()], "here"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Linear(3, ValueChoice([0, 4], label="w")), r"out_features.*at least 1, got 0"),
        (lambda: Linear(W / 2, 3), r"in_features.*got 2\.0"),
        (lambda: Conv2d(3, W, ValueChoice([2, 3])), "odd and even"),
        (lambda: Conv2d(W, W, 3, groups=4), "in_channels 6 .* groups 4"),
        (lambda: Conv2d(3, 4, 3, padding=ValueChoice([-1, 0])), r"padding.*at least 0, got -1"),
        (lambda: MultiheadAttention(W, 4), "embed_dim 6 does not divide by num_heads 4"),
        (lambda: Parametrized(nn.Linear, in_features=3), "Linear cannot be made"),
        (lambda: Parametrized(cast("Any", dict), a=W), "must build an nn.Module, got a dict"),
    ],
)
def test_impossible_layers_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        make()
