"""Memory layouts: of gradients, and of models that do not run with channels last."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn.layout import laid_out
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import mutables, space_of
from raynas.nn.pointwise import PointwiseConv2d
from raynas.supernet.memory_layout import lay_out, runs_channels_last
from raynas.supernet.network_training import NetworkTraining
from tests.zoo import ZOO, Images


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_takes_the_layout(layout: torch.memory_format) -> None:
    plain, laid = (
        torch.randn(2, 4, 3, 3).contiguous(memory_format=layout).requires_grad_() for _ in range(2)
    )
    found: list[Tensor] = []
    assert laid_out(laid) is laid
    for x in plain, laid:
        x.register_hook(found.append)  # behind ours, where there is one
        other = torch.randn(2, 4, 3, 3).contiguous(memory_format=layout)
        (torch.cat([x, x, other], 1)[:, :6]).mean((2, 3)).square().sum().backward()
    torch.cat([plain, laid], 1).sum().backward()
    assert [g.is_contiguous(memory_format=layout) for g in found[1:2]] == [True]
    assert found[3].is_contiguous(memory_format=layout)
    assert not found[2].is_contiguous(memory_format=layout)


def test_what_needs_no_gradient_or_is_no_image_is_left_alone() -> None:
    for x in torch.randn(2, 4, 3, 3), torch.randn(2, 4, requires_grad=True):
        assert laid_out(x) is x
        assert not x._backward_hooks


SHAPE = (1, 8, 8)
X = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
FITS = {
    "Images": True,
    "SharedBlocks": True,
    "InPlace": True,
    "Checkpointed": True,
    "ViewAfterConv": False,
    "ViewInOneCandidate": False,
}


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = Images() if name == "Images" else ZOO[name].factory()
    space_of(model)
    return model


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("channels_last", [True, False])
def test_what_needs_another_layout_is_seen(name: str, channels_last: bool) -> None:
    model = model_of(name).train()
    lay_out(model, channels_last)
    before = copy.deepcopy(model.state_dict())
    strides = [p.stride() for p in model.parameters()]
    drawn = torch.get_rng_state()
    assert runs_channels_last(model, X) == FITS[name]
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
    assert [p.stride() for p in model.parameters()] == strides
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())
    assert all(m.route is None for m in mutables(model))
    assert torch.equal(torch.get_rng_state(), drawn)


class Flipped(torch.autograd.Function):
    """Views a gradient as a row, where it comes laid out as the forward pass was."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return gradients[0].view(-1).flip(0).view(gradients[0].shape)


class FlipsGradients(Images):
    def between(self, x: Tensor) -> Tensor:
        y: Tensor = Flipped.apply(x)
        return y


def test_gradients_are_tried_too() -> None:
    model = FlipsGradients()
    space_of(model)
    assert not runs_channels_last(model, X)


def test_layers_of_pytorch_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: pytest.fail("it ran"))
    assert runs_channels_last(model, X)


@pytest.mark.parametrize(
    ("layer", "fits"),
    [
        (nn.Conv2d(3, 4, 1, 2), False),
        (nn.Conv2d(15, 4, 1, (1, 2), "valid"), False),
        (nn.Conv2d(16, 4, 1, 2), True),
        (nn.Conv2d(3, 4, 1), True),
        (nn.Conv2d(3, 4, 3, 2, 1), True),
        (nn.Conv2d(4, 4, 1, 2, groups=2), True),
        (PointwiseConv2d(3, 4, 2), True),
    ],
)
def test_a_convolution_that_would_overrun_its_memory_is_not_laid_out(
    layer: nn.Conv2d, fits: bool
) -> None:
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert runs_channels_last(model, torch.zeros(2, layer.in_channels, 8, 8)) == fits


def test_a_model_that_fails_anyway_is_left_to_whoever_runs_it() -> None:
    assert runs_channels_last(model_of("ViewAfterConv"), torch.zeros(2, 3, 8, 8))


def test_weights_of_four_dimensions_alone_are_laid_out() -> None:
    model = nn.Sequential(nn.Conv3d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Conv1d(2, 3, 3))
    lay_out(model, channels_last=True)
    assert [p.is_contiguous() for p in model.parameters() if p.dim() > 1] == [True, False, True]
    lay_out(model, channels_last=False)
    assert all(p.is_contiguous() for p in model.parameters())


@pytest.mark.parametrize("name", ["ViewAfterConv", "Volumes"])
def test_networks_of_their_own_run_in_the_layout_that_they_need(name: str) -> None:
    shape = ZOO[name].input_shape
    x, y = torch.randn(40, *shape), torch.arange(40) % 4
    data = TensorData([TensorDataset(x, y)] * 2)
    space = ModelSpace(ZOO[name].factory, input_shape=shape)
    net = space.build([*space.arch_space][-1])
    training = NetworkTraining(net, data, TrainSettings(epochs=1, batch_size=8))
    assert math.isfinite(training.run_epoch()["loss"])
    assert math.isfinite(training.validate()["loss"])
    assert not training.channels_last
