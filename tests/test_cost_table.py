"""Cost tables of every kind of mutable, against the networks themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.costs import CostTable, cost_of
from raynas.nn import Conv2d, Repeat, ValueChoice, activate, freeze, space_of
from tests.costnets import (
    IMAGE,
    Joining,
    Transformer,
    Unused,
    cells,
    conv,
    elastic_block,
    elastic_kernel,
    shared_depth,
    slots,
    stages,
    state,
    strided_row,
    widths,
)

Make = Callable[[], nn.Module]

# maker, input shape, whether bytes are exact, whether costs are tabulated
ZOO: dict[str, tuple[Make, tuple[int, ...], bool, bool]] = {
    "cells": (cells, IMAGE, False, True),
    "cells of any inputs": (lambda: cells(inputs="any", merge_op="loose_end"), IMAGE, False, True),
    "repeat": (strided_row, IMAGE, True, True),
    "no blocks": (
        lambda: nn.Sequential(conv(1, 1, 3), Repeat(conv(1, 1, 3), (0, 2))),
        IMAGE,
        False,
        True,
    ),
    "a depth that is a width": (shared_depth, IMAGE, True, True),
    "one input": (lambda: Joining(n_chosen=1), IMAGE, False, True),
    "two inputs": (lambda: Joining(n_chosen=2, reduction="mean"), IMAGE, False, True),
    "two inputs in a row": (lambda: Joining(n_chosen=2, reduction="concat"), IMAGE, False, True),
    "any inputs": (Joining, IMAGE, False, True),
    "any inputs in a row": (lambda: Joining(n_chosen=None, reduction="concat"), IMAGE, True, False),
    "kernels": (lambda: nn.Sequential(elastic_kernel("a"), elastic_kernel("a")), IMAGE, True, True),
    "blocks": (
        lambda: nn.Sequential(
            conv(1, 4, 1), Repeat(lambda i: elastic_block(4, f"b{i}"), (1, 2), label="depth")
        ),
        IMAGE,
        True,
        True,
    ),
    "widths": (widths, IMAGE, True, True),
    "a width through and through": (lambda: stages(2), IMAGE, True, True),
    "too many widths": (lambda: stages(6), IMAGE, True, False),
    "transformer": (Transformer, (1, 4, 5), True, True),
    "slots": (slots, IMAGE, True, True),
    "a choice that nothing calls": (Unused, IMAGE, True, True),
}


@pytest.mark.parametrize(("make", "shape", "exact", "tabulated"), ZOO.values(), ids=ZOO)
def test_the_table_is_exact_for_every_kind_of_mutable(
    make: Make, shape: tuple[int, ...], exact: bool, tabulated: bool
) -> None:
    torch.manual_seed(0)
    net, x, rng = make(), torch.randn(shape), np.random.default_rng(0)
    space = space_of(net)
    table = CostTable(net, x)
    assert (table.exact_per_arch is None) is tabulated
    archs = list(space) if space.size() < 30 else [space.sample(rng) for _ in range(12)]
    for arch in archs:
        ours, counted = table.cost(arch), cost_of(freeze(net, arch), x)
        assert (ours.params, ours.macs) == (counted.params, counted.macs)
        assert ours.activation_bytes >= counted.activation_bytes
        assert ours.activation_bytes == counted.activation_bytes or not exact
        assert table.cost(dict(arch)) == ours


def test_a_table_draws_nothing_and_leaves_forwards_alone() -> None:
    net: nn.Module = Transformer()
    activate(net, space_of(net).sample(np.random.default_rng(0)))
    before, forwards = state(net), [m.forward for m in net.modules()]
    CostTable(net, torch.zeros(1, 4, 5))
    assert state(net) == before
    assert [m.forward for m in net.modules()] == forwards
    net = stages(6)
    activate(net, space_of(net).sample(np.random.default_rng(0)))
    before = state(net)
    CostTable(net, torch.zeros(IMAGE)).cost(space_of(net).sample(np.random.default_rng(1)))
    assert state(net) == before


def test_a_table_says_why_it_is_none() -> None:
    table = CostTable(stages(6), torch.zeros(IMAGE))
    assert table.exact_per_arch is not None
    assert "'w0', 'w1', 'w2', 'w3', 'w4', 'w5' have 729 combinations" in table.exact_per_arch
    with pytest.raises(ValueError, match=r"no expectation by table: 'w0'.*729 combinations"):
        table.expected({})
    assert table.terms("macs") is None


def test_models_that_cannot_do_without_numbers_are_measured_with_them() -> None:
    class Peeks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = stages(6)

        def forward(self, x: Tensor) -> Tensor:
            assert float(x.sum()) == 0.0  # meta tensors have no numbers
            out: Tensor = self.net(x)
            return out

    net, x = Peeks(), torch.zeros(IMAGE)
    table, arch = CostTable(net, x), space_of(net).sample(np.random.default_rng(0))
    assert table.cost(arch) == cost_of(freeze(net, arch), x)


def test_a_candidate_that_does_not_fit_is_an_error_with_elastic_layers_too() -> None:
    width = ValueChoice([2, 4], label="width")
    net = nn.Sequential(Conv2d(1, width, 1), Conv2d(width, 3, 1), nn.Conv2d(5, 1, 1))
    with pytest.raises(RuntimeError, match="channels"):
        CostTable(net, torch.zeros(IMAGE))
