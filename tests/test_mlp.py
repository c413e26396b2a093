"""Perceptrons of elastic width and depth: size, shapes, inheritance, learning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.errors import InvalidSpace, UnknownName
from raynas.costs import cost_of
from raynas.nn import activate, freeze
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import mutables
from raynas.search_spaces.mlp import MLP, mlp

SAMPLES = 12
DEEP = {
    "width": 32,
    "depth": 2,
    "block1/expansion": 4,
    "block1/activation": "tanh",
    "block2/expansion": 1,
    "block2/activation": "silu",
    "dropout": 0.2,
}


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def small(**options: Any) -> ModelSpace:
    return mlp(**{"in_channels": 6, "num_classes": 3, "widths": (4, 8), **options})


def settled(net: nn.Module) -> nn.Module:
    """Give a net float64 weights all of which matter."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.double().parameters():
            parameter.normal_(generator=rng)
    return net


def test_the_size_by_hand() -> None:
    widths, dropouts, block = 4, 3, 3 * 4
    assert mlp().arch_space.size() == widths * dropouts * (block + block**2 + block**3)
    one = small(max_depth=1, expansions=(2,), activations=("relu",), dropouts=(0.0,))
    assert one.arch_space.size() == 2


def test_decisions_of_blocks_that_do_not_run_are_not_reached() -> None:
    tree, rng = mlp().arch_space, np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        arch = tree.sample(rng)
        depth = arch["depth"]
        assert isinstance(depth, int)
        seen.add(depth)
        blocks = {label.split("/")[0] for label in arch if "/" in label}
        assert blocks == {f"block{i + 1}" for i in range(depth)}
    assert seen == {1, 2, 3}  # each is missed by 30 uniform draws with probability 5e-6


def test_frozen_networks_compute_what_the_supernet_does() -> None:
    space, rng = mlp(num_classes=3), np.random.default_rng(0)
    supernet, x, outs = settled(space.supernet()).eval(), rows(5, 64), []
    for _ in range(SAMPLES):
        arch = space.arch_space.sample(rng)
        activate(supernet, arch)
        net = freeze(supernet, arch)
        assert not list(mutables(net))
        outs.append(net(x))
        assert torch.equal(outs[-1], supernet(x))
    assert {out.shape for out in outs} == {(5, 3)}
    assert len({float(out.detach().sum()) for out in outs}) > SAMPLES / 2


def test_a_frozen_network_is_plain_layers_of_the_decided_sizes() -> None:
    net = mlp(num_classes=3).build(DEEP)
    sizes = [(m.in_features, m.out_features) for m in net.modules() if type(m) is nn.Linear]
    assert sizes == [(64, 32), (32, 128), (128, 32), (32, 32), (32, 32), (32, 3)]
    kinds = [type(m) for m in net.modules() if not list(m.children())]
    block = [nn.LayerNorm, nn.Linear, None, nn.Linear]
    inner = [kind or act for act in (nn.Tanh, nn.SiLU) for kind in block]
    assert kinds == [nn.Linear, *inner, nn.LayerNorm, nn.Dropout, nn.Linear]
    assert net.get_submodule("dropout").p == 0.2


def test_a_block_by_hand() -> None:
    net = settled(mlp(num_classes=3).build(DEEP))
    block, x = net.get_submodule("blocks.0"), rows(5, 32)
    part = {name: p.detach() for name, p in block.named_parameters()}
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    hidden = (normed * part["norm.weight"] + part["norm.bias"]) @ part["expand.weight"].T
    act = (hidden + part["expand.bias"]).tanh()
    expected = x + act @ part["contract.weight"].T + part["contract.bias"]
    torch.testing.assert_close(block(x), expected)


def test_sub_networks_take_the_first_rows_and_columns() -> None:
    space = mlp(num_classes=3)
    supernet = space.supernet()
    net = space.build(DEEP, supernet.state_dict(), seed=1)
    whole, part = supernet.state_dict(), net.state_dict()
    for name in ("stem.weight", "blocks.0.expand.weight", "classifier.weight", "norm.bias"):
        cut = tuple(slice(size) for size in part[name].shape)
        assert torch.equal(part[name], whole[name.replace("blocks.", "blocks.blocks.")][cut])
    assert whole["blocks.blocks.0.expand.weight"].shape == (4 * 128, 128)


def test_gradients_reach_the_active_part_only() -> None:
    net = mlp(num_classes=3).supernet().double()
    activate(net, DEEP)
    net(rows(5, 64)).sum().backward()
    stem = net.get_parameter("stem.weight").grad
    assert stem is not None
    assert (stem[:32] != 0).any()
    assert (stem[32:] == 0).all()
    assert net.get_parameter("blocks.blocks.2.expand.weight").grad is None


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (64,)),
        ({"in_channels": 5}, (5,)),
        ({"in_channels": 3, "resolution": 4}, (3, 4, 4)),
        ({"in_features": 7, "in_channels": 3, "resolution": 4}, (7,)),
    ],
)
def test_flat_examples_and_images(options: dict[str, int], shape: tuple[int, ...]) -> None:
    space = mlp(num_classes=3, **options)  # type: ignore[arg-type]
    assert space.input_shape == shape
    net = space.build(space.arch_space.sample(np.random.default_rng(0)))
    assert net(space.example_input(2)).shape == (2, 3)
    assert cost_of(net, space.example_input()).macs > 0


def test_other_shapes_are_flattened_too() -> None:
    space = mlp(num_classes=3, in_features=2 * 3 * 5)
    net = settled(space.build(DEEP)).eval()
    x = rows(4, 2, 3, 5)
    assert torch.equal(net(x), net(x.flatten(1)))


def test_macs_by_hand() -> None:
    cost = cost_of(mlp(num_classes=3).build(DEEP), torch.zeros(1, 64))
    assert cost.macs == 64 * 32 + 2 * 32 * 128 + 2 * 32 * 32 + 32 * 3


def test_steps_of_sgd_lower_the_loss() -> None:
    space = small(dropouts=(0.0,))
    x = rows(60, 6).float()
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 1).long()  # no linear rule
    net = space.supernet()
    assert isinstance(net, MLP)
    activate(
        net,
        {
            "width": 8,
            "depth": 1,
            "block1/expansion": 4,
            "block1/activation": "gelu",
            "dropout": 0.0,
        },
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(60):
        loss = functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resolution": 0}, ValueError, "resolution must be positive, got 0"),
        ({"max_depth": 0}, ValueError, "max_depth must be positive, got 0"),
        ({"dropouts": (0.1, 1.0)}, ValueError, r"below 1, got 1\.0"),
        ({"widths": (8, 0)}, InvalidSpace, "at least 1, got 0"),
        ({"activations": ("gleu",)}, UnknownName, "'gleu'; did you mean 'gelu'"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small(**options).supernet()
