"""Expected and extreme costs, against the enumeration of all architectures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.costs import CostTable, cost_bound
from raynas.nn import LayerChoice, space_of
from tests.costnets import (
    IMAGE,
    Toy,
    Transformer,
    cells,
    inside_itself,
    shared_depth,
    small_cell,
    stages,
    widths,
)

Make = Callable[[], nn.Module]


def chances(space: ArchSpace, generator: torch.Generator) -> dict[str, Tensor]:
    """Logits by label; a set's are equal, so that all sets are equally likely."""
    return {
        label: torch.randn(
            len(d.options), generator=generator, dtype=torch.float64
        ).requires_grad_()
        for label, d in space.decisions.items()
        if isinstance(d, Choice)
    }


def by_enumeration(
    space: ArchSpace, p: dict[str, Tensor], value: Callable[[Arch], float]
) -> Tensor:
    """The sum over all architectures of probability times cost."""
    total = torch.zeros((), dtype=torch.float64)
    for arch in space:
        chance = torch.ones((), dtype=torch.float64)
        for label, decision in space.reached(arch).items():
            if isinstance(decision, Choice):
                chance = chance * p[label][decision.index(arch[label])]
            else:
                chance = chance / decision.count()
        total = total + chance * value(arch)
    return total


EXPECTED: dict[str, tuple[Make, tuple[int, ...]]] = {
    "nested and shared": (Toy, IMAGE),
    "cells": (cells, IMAGE),
    "cells of any inputs": (lambda: small_cell(inputs="any"), IMAGE),
    "transformer": (Transformer, (1, 4, 5)),
    "a depth that is a width": (shared_depth, IMAGE),
    "widths": (widths, IMAGE),
    "a label inside itself": (inside_itself, IMAGE),
}


@pytest.mark.parametrize(("make", "shape"), EXPECTED.values(), ids=EXPECTED)
def test_the_expectation_is_the_sum_over_all_architectures(
    make: Make, shape: tuple[int, ...]
) -> None:
    net = make()
    space = space_of(net)
    table, logits = CostTable(net, torch.zeros(shape)), chances(space, torch.manual_seed(0))
    p = {label: vector.softmax(0) for label, vector in logits.items()}
    sets = {
        label: torch.full((len(d.options),), d.k / len(d.options), dtype=torch.float64)
        for label, d in space.decisions.items()
        if isinstance(d, Subset) and d.k is not None
    }
    for metric in ("macs", "params"):
        if metric == "params" and make is Toy:
            continue  # tied weights
        wanted = by_enumeration(space, p, lambda arch, m=metric: getattr(table.cost(arch), m))  # type: ignore[misc]
        came = table.expected(p | sets, metric)
        assert came.dtype == torch.float64
        torch.testing.assert_close(came, wanted, rtol=1e-12, atol=0)
        vectors = list(logits.values())
        ours, theirs = (
            torch.autograd.grad(e, vectors, retain_graph=True, materialize_grads=True)
            for e in (came, wanted)
        )
        # absolute: of labels that no cost depends on, the enumeration's cancels only nearly
        scale = wanted.item()
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12 * scale)


def test_tied_parameters_are_expected_once_per_candidate() -> None:
    tied, own = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
    net = nn.Sequential(LayerChoice([tied, own], "a"), LayerChoice([tied, own], "b"))
    table = CostTable(net, torch.zeros(IMAGE))
    half = {label: torch.tensor([0.5, 0.5]) for label in "ab"}
    assert float(table.expected(half, "params")) == 2 * (0.5 * 9 + 0.5 * 1)
    assert [table.cost({"a": a, "b": b}).params for a, b in ((0, 0), (0, 1), (1, 1))] == [9, 10, 1]
    # parameters that are there in any case are not expected at all
    always = nn.Sequential(tied, LayerChoice([tied, own], "a"))
    table = CostTable(always, torch.zeros(IMAGE))
    assert float(table.expected({"a": torch.tensor([0.25, 0.75])}, "params")) == 9 + 0.75 * 1


def test_a_mixture_runs_every_edge_and_zeros_cost_nothing() -> None:
    net = small_cell()
    table = CostTable(net, torch.zeros(IMAGE))
    three, five = 9 * 36, 25 * 36
    edges = [f"c/n0/op/{s}" for s in ("s0", "s1")] + [f"c/n1/op/{s}" for s in ("s0", "s1", "n0")]
    with_zeros = {label: torch.tensor([0.5, 0.25, 0.25]) for label in edges}
    assert float(table.expected(with_zeros)) == 5 * (0.5 * three + 0.25 * five)
    without = {label: torch.tensor([0.5, 0.25]) for label in edges}
    assert table.expected(without) == table.expected(with_zeros)
    # pruned edges have all-zero vectors
    pruned = with_zeros | {edges[0]: torch.zeros(3)}
    assert float(table.expected(pruned)) == 4 * (0.5 * three + 0.25 * five)


def test_probabilities_that_do_not_fit_are_named() -> None:
    net = Toy()
    table = CostTable(net, torch.zeros(IMAGE))
    half = {label: torch.tensor([0.5, 0.5]) for label in space_of(net).labels}
    with pytest.raises(ValueError, match="no probabilities for 'shared'"):
        table.expected({k: v for k, v in half.items() if k != "shared"})
    with pytest.raises(ValueError, match=r"'first': expected shape \(2,\), got \(3,\)"):
        table.expected(half | {"first": torch.ones(3)})
    with pytest.raises(ValueError, match="no expected 'mac'; did you mean 'macs'"):
        table.expected(half, "mac")


@pytest.mark.parametrize("name", ["nested and shared", "transformer", "cells", "widths"])
@pytest.mark.parametrize("metric", ["macs", "params", "activation_bytes"])
def test_extremes_are_those_of_the_enumeration(name: str, metric: str) -> None:
    make, shape = EXPECTED[name]
    net = make()
    space, table = space_of(net), CostTable(net, torch.zeros(shape))
    values = [getattr(table.cost(arch), metric) for arch in space]
    for goal, wanted in (("min", min(values)), ("max", max(values))):
        found = cost_bound(space, table, metric, goal)  # type: ignore[arg-type]
        space.check(found.arch)
        assert getattr(table.cost(found.arch), metric) == found.value
        if metric == "params" and make is Toy:  # tied
            assert not found.exact
        else:
            assert found.exact
            assert found.value == wanted


def test_extremes_without_a_table_are_searched_for() -> None:
    net = stages(6)
    space, table = space_of(net), CostTable(net, torch.zeros(IMAGE))
    low, high = (cost_bound(space, table, "macs", goal) for goal in ("min", "max"))
    assert (low.exact, high.exact) == (False, False)
    assert dict(low.arch) == {f"w{i}": 2 for i in range(6)}
    assert dict(high.arch) == {f"w{i}": 5 for i in range(6)}
