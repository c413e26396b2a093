"""An existing model becomes a space: whole it is the model, and each part of it a smaller one."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import raynas
from raynas.core.errors import InvalidSpace
from raynas.nn import activate, freeze


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = torchvision.models.resnet18(weights=None, num_classes=10)
    return net.double().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def space(model: nn.Module, images: Tensor) -> raynas.ModelSpace:
    return raynas.elastic(model, images, width=[0.5, 0.75], depth=True, kernel=3)


def test_the_whole_is_the_model(model: nn.Module, images: Tensor, space: raynas.ModelSpace) -> None:
    net = space.supernet().eval()
    assert isinstance(net, torchvision.models.ResNet)
    state = net.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert float((net(images) - model(images)).abs().max()) <= 1e-12


def test_a_part_is_extracted_as_a_plain_model(images: Tensor, space: raynas.ModelSpace) -> None:
    net, rng = space.supernet().eval(), np.random.default_rng(0)
    for _ in range(5):
        arch = space.arch_space.sample(rng)
        activate(net, arch)
        plain = freeze(net, arch)
        assert type(plain) is torchvision.models.ResNet
        assert {type(m).__module__.split(".")[0] for m in plain.modules()} <= {
            "torch",
            "torchvision",
            "raynas",
        }
        assert plain.state_dict().keys() <= net.state_dict().keys()
        with torch.no_grad():
            assert float((net(images) - plain(images)).abs().max()) <= 1e-12


def test_the_model_stays_as_it_is(model: nn.Module, space: raynas.ModelSpace) -> None:
    before = copy.deepcopy(model.state_dict())
    net = space.supernet()
    with torch.no_grad():
        next(net.parameters()).add_(1.0)
    assert type(model) is torchvision.models.ResNet
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_gradients_reach_active_slices_only(images: Tensor, space: raynas.ModelSpace) -> None:
    net = space.supernet()
    arch = space.arch_space.decided(lambda decision: decision.options[-1])
    activate(net, arch)
    net(images).sum().backward()
    weight = dict(net.named_parameters())["conv1.weight"]
    assert weight.grad is not None
    kept = arch["conv1.width"]
    assert kept == 32
    assert bool((weight.grad[kept:] == 0).all())
    assert bool((weight.grad[:kept] != 0).any())


def test_a_model_that_refuses_its_example_is_said(model: nn.Module) -> None:
    with pytest.raises(InvalidSpace, match="ResNet does not take the example, of shapes"):
        raynas.elastic(model, torch.zeros(2, 5, 32, 32).double(), width=0.5)


def test_a_model_of_chance_is_said() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(InvalidSpace, match="Noisy gives different outputs for one input"):
        raynas.elastic(Noisy(), torch.zeros(2, 3), width=0.5)
