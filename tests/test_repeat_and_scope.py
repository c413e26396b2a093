"""Elastic depth, and named parts of a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raynas.core.errors import InvalidSpace
from raynas.nn import (
    LayerChoice,
    MutableScope,
    Repeat,
    ValueChoice,
    activate,
    freeze,
    space_of,
    watch_scopes,
)
from tests.laws import keeps_the_laws

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def block(_: int = 0) -> nn.Module:
    return LayerChoice({"lin": nn.Linear(3, 3).double(), "tanh": nn.Tanh()})


def test_copies_decide_together_and_keep_weights_apart() -> None:
    net = Repeat(block(), (1, 3), label="depth")
    assert space_of(net).labels == ("depth", "0")
    assert space_of(net).size() == 3 * 2
    weights = {p.data_ptr() for p in net.parameters()}
    assert len(weights) == 6
    keeps_the_laws(net, X)


def test_a_function_s_blocks_decide_on_their_own() -> None:
    net = Repeat(block, (0, 3), label="depth")
    assert space_of(net).labels == ("depth", "0", "1", "2")
    assert space_of(net).size() == 1 + 2 + 4 + 8
    keeps_the_laws(net, X, samples=40)


def test_the_first_blocks_run() -> None:
    net = Repeat(lambda _: nn.Linear(3, 3).double(), (0, 2), label="d")
    activate(net, {"d": 0})
    assert torch.equal(net(X), X)
    activate(net, {"d": 2})
    a, b = net.blocks
    assert torch.equal(net(X), b(a(X)))
    assert list(freeze(net, {"d": 1}).state_dict()) == ["0.weight", "0.bias"]


def test_depth_by_a_value_and_by_arithmetic() -> None:
    cells = ValueChoice([1, 2], label="cells")
    net = nn.Sequential(Repeat(block, cells * 2), Repeat(block, cells), Repeat(block, 1))
    space = space_of(net)
    assert space.labels == ("cells", "0.0", "0.1", "1.0", "0.2", "0.3", "1.1", "2.0")
    assert space.size() == 2 * (2**2 * 2 + 2**4 * 2**2)
    keeps_the_laws(net, X)
    unnamed = nn.Sequential(Repeat(block, ValueChoice([1, 2])))
    assert space_of(unnamed).labels[0] == "0.depth"


def test_a_fixed_depth_is_no_decision() -> None:
    net = Repeat(block, 2)
    assert space_of(net).labels == ("0", "1")
    keeps_the_laws(net, X)


@pytest.mark.parametrize(
    ("blocks", "depth", "said"),
    [
        (block, (3, 1), r"depth.*\(3, 1\)"),
        (block, (-1, 1), r"depth.*\(-1, 1\)"),
        (block, ValueChoice([1.5]), "depth"),
        (block, ValueChoice([1], label="a") + ValueChoice([2], label="b"), "exactly one value"),
        ([nn.Tanh()], (1, 2), "expected 2 blocks for that depth, got 1"),
        (lambda _: 3, 1, "block 0 must be an nn.Module, got a int"),
        (block, (1, 2, 3), r"Repeat 'd': depth is \(1, 2, 3\), expected .*smallest, largest"),
        (block, (0, "3"), r"depth is \(0, '3'\)"),
        (block, "2", "depth is '2'"),
        (block, 2.0, "depth is 2.0"),
        (block, True, "depth is True"),
        (block, None, "depth is None"),
        (3, 2, "'d': blocks must be a module, a function .*, got 3"),
        (nn.Tanh, 2, r"'d': blocks is the class Tanh; pass an instance .*lambda _: Tanh\("),
    ],
)
def test_impossible_depths_are_refused(blocks: Any, depth: Any, said: str) -> None:
    with pytest.raises(InvalidSpace, match=said):
        Repeat(blocks, depth, label="d")


def test_printing_and_mode() -> None:
    net = Repeat(nn.Tanh(), (1, 2), label="d")
    assert repr(net).splitlines()[1].strip() == "label='d', depth=1 to 2"
    assert "label=None, depth=2" in repr(Repeat(nn.Tanh(), 2))
    net.eval()
    net.blocks[0].train()
    row = freeze(net, {"d": 2})
    assert [module.training for module in row.modules()] == [False, True, False]


def test_without_a_depth_forward_says_what_to_call() -> None:
    with pytest.raises(RuntimeError, match=r"'d'.*activate"):
        Repeat(block, (1, 2), label="d")(X)


class Part(MutableScope):
    """A scope with a choice of its own and one of a given label."""

    def __init__(self, label: str | None = None) -> None:
        super().__init__(label)
        self.first = block()
        self.inner: Any = MutableScope()
        self.inner.choice = block()
        self.given = LayerChoice([nn.Tanh(), nn.ReLU()], label="given")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.given(self.inner.choice(self.first(x)))
        return y


def test_labels_below_a_scope_begin_with_its_own() -> None:
    net = nn.Sequential(Part("part"), Part("part"), Part())
    assert space_of(net).labels == (
        "part.first",
        "part.inner.choice",
        "given",
        "2.first",
        "2.inner.choice",
    )
    assert [part.label for part in net] == ["part", "part", "2"]
    keeps_the_laws(net, X)


def test_entering_and_leaving_is_seen_also_when_it_fails() -> None:
    net = nn.Sequential(Part("a"), Part("b"))
    activate(net, {label: 0 for label in space_of(net).labels})
    seen: list[tuple[str, str | None]] = []

    def entered(scope: MutableScope) -> None:
        seen.append(("in", scope.label))

    def left(scope: MutableScope) -> None:
        seen.append(("out", scope.label))

    with watch_scopes(net, entered, left):
        net(X)
        assert seen == [("in", "a"), ("out", "a"), ("in", "b"), ("out", "b")]
        seen.clear()
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            net(X[:, :2])
        assert seen == [("in", "a"), ("out", "a")]
    seen.clear()
    net(X)
    assert seen == []
