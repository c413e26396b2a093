"""The spaces of ENAS: their sizes, what their cells and layers compute, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.nn import activate, freeze, space_of
from raynas.nn.cell import Cell
from raynas.nn.inputs import InputChoice
from raynas.nn.operators import FactorizedReduce, ReLUConvBN
from raynas.nn.when_read import Unread, WhenRead
from raynas.search_spaces.enas_macro import enas_macro
from raynas.search_spaces.enas_micro import enas_micro
from tests.laws import keeps_the_laws

A, B = (torch.full((2, 3, 4, 4), value, dtype=torch.float64) for value in (1.0, 10.0))


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


def test_sizes_are_those_of_the_papers() -> None:
    assert enas_macro(channels=2).arch_space.size() == 6**12 * 2**66
    assert enas_macro(channels=2, layers=3).arch_space.size() == 6**3 * 2**3
    cell = (5**5 * factorial(6)) ** 2
    assert enas_micro(channels=2, layers=3).arch_space.size() == cell**2 == 5062500000000**2
    assert enas_micro(channels=2, layers=3, nodes=1).arch_space.size() == (2 * 5) ** 4


def test_unread_states_are_joined_by_hand() -> None:
    cell = Cell([Scale(2.0)], 3, 1, 2, merge_op="unread", label="c", inputs="any")
    arch: dict[str, Any] = {f"c/n{i}/from0": source for i, source in enumerate(("s0", "n0", "s0"))}
    arch |= {f"c/n{i}/op0": 0 for i in range(3)}
    activate(cell, arch)
    nothing = torch.zeros_like(A)
    expected = torch.cat([nothing, B, nothing, 4 * A, 2 * A], 1)
    assert torch.equal(cell(A, B), expected)
    assert torch.equal(freeze(cell, arch)(A, B), expected)


@pytest.mark.parametrize("inputs", ["distinct", "any"])
def test_cells_of_unread_states_keep_the_laws(inputs: Any) -> None:
    candidates = {"more": Scale(2.0), "less": Scale(0.5)}
    cell = Cell(candidates, 3, 2, 2, merge_op="unread", label="c", inputs=inputs)
    keeps_the_laws(cell, A, B, samples=30)


def test_the_cells_of_the_micro_space_have_one_size_and_width() -> None:
    net: Any = enas_micro(channels=4, layers=6, nodes=2, resolution=16).supernet()
    arch = space_of(net).sample(np.random.default_rng(0))
    activate(net.eval(), arch)
    shapes: list[tuple[int, ...]] = []
    for cell in net.cells:
        cell.register_forward_hook(lambda *given: shapes.append(tuple(given[2].shape[1:])))
    net(torch.zeros(1, 3, 16, 16))
    assert shapes == [(4, 16, 16)] * 2 + [(8, 8, 8)] * 2 + [(16, 4, 4)] * 2
    assert [cell.label for cell in net.cells] == [
        *("normal", "normal", "reduce", "normal", "reduce", "normal")
    ]
    kinds = [[type(part) for part in cell.pre.children()] for cell in net.cells]
    same, wide, halve = nn.Identity, ReLUConvBN, FactorizedReduce
    reduced = [[halve, halve], [halve, same]]
    assert kinds == [[wide, wide], [wide, same], *reduced, *reduced]


def layer_by_layer(net: Any, arch: Mapping[str, Any], x: Tensor) -> Tensor:
    """Compute logits as the authors' code does, all outputs halved."""
    states = [net.stem(x)]
    for number, layer in enumerate(net.layers):
        out = layer.op.candidates[str(arch[f"layer{number}/op"])](states[-1])
        if number:
            for state in arch[f"layer{number}/skip"]:
                out = out + states[state]
            out = layer.bn(out)
        states.append(out)
        if number in (1, 3):
            halve = net.reductions[str(number)].states
            layers = [h.layer if isinstance(h, WhenRead) else h for h in halve]
            states = [layer(state) for layer, state in zip(layers, states, strict=True)]
    logits: Tensor = net.classifier(states[-1].mean((2, 3)))
    return logits


def test_a_macro_network_adds_the_outputs_that_it_picks() -> None:
    net = enas_macro(channels=4, layers=6, resolution=8).supernet().double().eval()
    rng = np.random.default_rng(1)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(10):
        arch = space_of(net).sample(rng)
        activate(net, arch)
        torch.testing.assert_close(net(x), layer_by_layer(net, arch, x), rtol=1e-12, atol=1e-12)
        assert torch.equal(freeze(net, arch)(x), net(x))


def test_reductions_that_nobody_reads_are_left_out() -> None:
    net = enas_macro(channels=4, layers=6).supernet()
    plain: dict[str, Any] = {f"layer{i}/op": "max_pool_3x3" for i in range(6)}
    plain |= {f"layer{i}/skip": () for i in range(1, 6)}
    reading = plain | {"layer4/skip": (1,)}

    def halving(arch: dict[str, Any]) -> list[int]:
        frozen: Any = freeze(net, arch)
        parts = [r.states for r in frozen.reductions.values()]
        return [sum(isinstance(s, FactorizedReduce) for s in states) for states in parts]

    assert halving(plain) == [1, 1]  # of the last output alone
    assert halving(reading) == [2, 2]  # and of state 1, which layer 4 reads twice halved
    assert halving(plain | {"layer3/skip": (0, 1)}) == [3, 1]


class Reader(nn.Module):
    """Adds one or both of two inputs, the second of which passes a layer first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = WhenRead(nn.Linear(3, 3), [("pick", 1)])
        self.pick = InputChoice(2, label="pick")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.pick([x, self.layer(x)])
        return out


def test_a_layer_runs_only_where_it_is_read() -> None:
    net: Any = Reader().double()
    x = torch.ones(1, 3, dtype=torch.float64)
    keeps_the_laws(net, x, samples=8)
    assert space_of(net).size() == 4
    calls: list[int] = []
    net.layer.layer.register_forward_hook(lambda *_: calls.append(1))
    for picked, count in (((), 0), ((0,), 0), ((1,), 1), ((0, 1), 2)):
        activate(net, {"pick": picked})
        out = net(x)
        assert len(calls) == count
        expected = x + (x if 0 in picked else 0) + (net.layer.layer(x) if 1 in picked else 0)
        calls[:] = calls[:count]
        assert torch.equal(out, expected)
    assert isinstance(freeze(net, {"pick": (0,)}).layer, Unread)
    assert isinstance(freeze(net, {"pick": (0, 1)}).layer, nn.Linear)
    fresh = Reader().double()
    space_of(fresh)
    with pytest.raises(RuntimeError, match="'layer' does not know whether it is read"):
        fresh.layer(x)


def test_a_choice_of_one_reads_too() -> None:
    layer = WhenRead(nn.Identity(), [("one", "b")])
    assert layer.read({"one": "b"})
    assert not layer.read({"one": "a"})
    assert not layer.read({})


@pytest.mark.parametrize(
    ("space", "options", "said"),
    [
        (enas_macro, {"layers": 2}, "layers must be at least 3"),
        (enas_macro, {"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        (enas_macro, {"channels": 0}, "channels must be positive, got 0"),
        (enas_micro, {"nodes": 0}, "nodes must be positive, got 0"),
        (enas_micro, {"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
    ],
)
def test_impossible_sizes_are_refused(space: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        space(**options)
