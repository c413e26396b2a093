"""Balanced and strictly fair paths of SPOS, and what a path's step moves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.algorithms.spos import SPOS
from raynas.core.arch import Arch, Atom
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.core.errors import InvalidSpace
from raynas.nn import LayerChoice, Repeat, ValueChoice, freeze, space_of
from raynas.nn.elastic_linear import Linear
from raynas.supernet.balance import BalancedPaths
from raynas.supernet.fairness import FairPaths
from tests import pathnets
from tests.pathnets import X, Y, net

training = partial(pathnets.training, epochs=2, batch_size=8)


def plain(**options: Any) -> SPOS:
    return SPOS(warm_start_steps=0, **options)


# --- strict fairness ------------------------------------------------------------------------------


def structured() -> ArchSpace:
    """Depths that share blocks, an option that opens decisions, inputs of both kinds."""
    block = [ArchSpace((Choice(f"op{i}", ("a", "b", "c")),)).choices for i in range(3)]
    row: dict[Atom, ArchSpace] = {
        d: ArchSpace(tuple(c for part in block[:d] for c in part)) for d in (1, 2, 3)
    }
    inner = ArchSpace((Choice("inner", ("x", "y"), {"y": ArchSpace.of(innermost=range(5))}),))
    sources: dict[Atom, ArchSpace] = {
        s: ArchSpace.of(**{f"edge{s}": list("pqrs")}) for s in (0, 1, 2)
    }
    return ArchSpace(
        (
            Choice("depth", (1, 2, 3), row),
            Choice("outer", ("leaf", "tree"), {"tree": inner}),
            Choice("wide", tuple(range(5))),
            Subset("two", (0, 1, 2), 2, sources),
            Subset("any", ("s", "t", "u"), None),
            Choice("only", ("one",)),
        )
    )


def test_at_any_time_candidates_were_taken_equally_often_or_once_more() -> None:
    """Exactly, of every decision: at the root, under an option, under depths and under inputs."""
    space = structured()
    fair = FairPaths(space, seed=1)
    assert fair.per_step == 5
    counts: dict[str, Counter[Any]] = {
        label: Counter({option: 0 for option in decision.options})
        for label, decision in space.decisions.items()
        if isinstance(decision, Choice)
    }
    inputs = Counter({s: 0 for s in (0, 1, 2)})
    for position in range(360):
        path = fair.path(position)
        space.check(path)
        for label, taken in counts.items():
            if label in path:
                taken[path[label]] += 1
            assert max(taken.values()) - min(taken.values()) <= 1
        inputs.update(path["two"])  # type: ignore[arg-type]
        if position % 3 == 2:
            assert len(set(inputs.values())) == 1
    # 360 is a multiple of what opens each of them times its candidates
    for label, expected in {"depth": 120, "op0": 120, "op1": 80, "op2": 40, "outer": 180}.items():
        assert set(counts[label].values()) == {expected}
    for label, expected in {"inner": 90, "innermost": 18, "wide": 72, "edge0": 60}.items():
        assert set(counts[label].values()) == {expected}


def test_any_number_of_inputs_takes_each_once_in_two_paths() -> None:
    fair = FairPaths(structured(), seed=2)
    for position in range(0, 40, 2):
        pair = fair.path(position)["any"], fair.path(position + 1)["any"]
        assert sorted((*pair[0], *pair[1])) == ["s", "t", "u"]  # type: ignore[misc]


def test_every_step_has_every_candidate_once() -> None:
    """FairNAS' own case: choices of equally many candidates."""
    algo = plain(seed=3, fairness="strict")
    training(net(3, 3, 3), algo)
    for step in range(200):
        paths = [path for path, _ in algo.sampled(step)]
        assert len(paths) == 3
        for label in ("0", "1", "2"):
            assert {path[label] for path in paths} == {0, 1, 2}


def test_fair_paths_are_uniform_and_choices_independent() -> None:
    """Chi-square of a step's first path over 27 architectures, 5400 steps.

    False alarm: 1e-6, by the quantile of 26 degrees of freedom.
    """
    algo = plain(seed=4, fairness="strict")
    model = net(3, 3, 3)
    training(model, algo)
    drawn = Counter(algo.path(step) for step in range(5400))
    counts = np.array([drawn[arch] for arch in space_of(model)])
    assert ((counts - 200) ** 2 / 200).sum() < 75.6


def test_fair_paths_follow_the_seed() -> None:
    first, again, other = (
        [FairPaths(structured(), seed).path(at) for at in range(20)] for seed in (1, 1, 2)
    )
    assert first == again != other  # equal with probability below 5^-20


def test_a_fair_step_is_one_step_on_the_sum_of_the_static_nets_gradients() -> None:
    model, algo = net(3, 2), plain(seed=0, fairness="strict")
    run = training(model, algo, lr=0.5, momentum=0.0, weight_decay=0.0, batch_size=48)
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    paths = [path for path, _ in algo.sampled(0)]
    assert len(paths) == 3
    expected = {name: torch.zeros_like(w) for name, w in before.items()}
    losses = []
    for path in paths:
        loss, gradients = static(model, path)
        losses.append(loss)
        for name, gradient in gradients.items():
            expected[name] += gradient
    steps: list[int] = []
    run.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    row = algo.step((X, Y), iter(()))
    assert len(steps) == 1
    assert float(row["loss"]) == pytest.approx(sum(losses) / 3, rel=1e-12)
    lr = run.optimizer.param_groups[0]["lr"]
    for name, weight in model.named_parameters():
        moved = (before[name] - weight.detach()) / lr
        torch.testing.assert_close(moved, expected[name], rtol=1e-9, atol=1e-12)


def static(model: nn.Module, path: Arch) -> tuple[float, dict[str, Tensor]]:
    """Return the loss and the gradients of the frozen net, by the supernet's names."""
    alone = freeze(model, path)
    loss = nn.functional.cross_entropy(alone(X), Y)
    names = {str(at): f"{at}.candidates.{path[str(at)]}" for at in range(len(path))}
    gradients = torch.autograd.grad(loss, list(alone.parameters()))
    keys = [key.split(".") for key, _ in alone.named_parameters()]
    named = [".".join([names.get(at, at), *rest]) for at, *rest in keys]
    return float(loss.detach()), dict(zip(named, gradients, strict=True))


def test_what_would_be_left_to_chance_is_refused() -> None:
    shared = ArchSpace.of(shared=[1, 2])
    apart = ArchSpace((Choice("a", (0, 1), {0: shared}), Choice("b", (0, 1), {1: shared})))
    with pytest.raises(InvalidSpace, match="'shared' stands below 'a' and 'b'"):
        FairPaths(apart, 0)
    together = ArchSpace((Subset("from", (0, 1, 2), 2, {0: shared, 1: shared}),))
    with pytest.raises(InvalidSpace, match="'shared' stands below several of 'from'"):
        FairPaths(together, 0)
    also_at_the_root = ArchSpace((*shared.choices, *apart.choices))
    assert FairPaths(also_at_the_root, 0).per_step == 2


# --- balance --------------------------------------------------------------------------------------


def test_costs_spread_evenly_over_the_bins() -> None:
    """Where uniform paths heap up in the middle: 8 coins, cost = heads, 3 bins of [0, 8].

    Chi-square of 3000 paths over the bins, 2 degrees of freedom: false alarm 1e-6. No cost lies on
    an edge (8/3, 16/3), so that the bins are {0, 1, 2}, {3, 4, 5} and {6, 7, 8}.
    """
    space = ArchSpace.of(**{f"c{i}": (0, 1) for i in range(8)})

    def heads(arch: Arch) -> float:
        return float(sum(int(str(v)) for v in arch.values()))

    balanced = BalancedPaths(space, heads, (0.0, 8.0), bins=3, tries=500)
    rng, drawn = np.random.default_rng(0), Counter[int]()
    for _ in range(3000):
        path, fits = balanced.draw(rng)
        assert fits  # 500 paths miss a bin of 37 in 256 with probability 1e-34
        drawn[int(heads(path)) // 3] += 1
    assert sum((drawn[at] - 1000) ** 2 / 1000 for at in range(3)) < 27.7


def test_an_empty_bin_gives_any_path_after_so_many_tries() -> None:
    asked: list[Arch] = []

    def cost(arch: Arch) -> float:
        asked.append(arch)
        return 1.0

    balanced = BalancedPaths(ArchSpace.of(c=(0, 1)), cost, (5.0, 9.0), bins=1, tries=7)
    path, fits = balanced.draw(np.random.default_rng(0))
    assert not fits
    assert len(asked) == 7
    assert path == asked[-1]


def mixed() -> nn.Module:
    """Candidates, elastic widths, an elastic depth and a choice between inputs' layers."""
    torch.manual_seed(0)
    width = ValueChoice([2, 4, 8], label="width")
    layers = LayerChoice({"big": nn.Linear(6, 6), "none": nn.Identity()}, label="layer")
    rows = Repeat(lambda i: LayerChoice([nn.Linear(6, 6), nn.Tanh()], f"b{i}"), (1, 3), "depth")
    return nn.Sequential(layers, rows, Linear(6, width), nn.Tanh(), Linear(width, 3)).double()


@pytest.mark.parametrize("metric", ["macs", "params"])
def test_costs_of_elastic_layers_are_balanced_too(metric: Any) -> None:
    """Against the cost of every frozen path, 40 steps."""
    model, algo = mixed(), plain(seed=1, balance=metric, balance_bins=4)
    run = training(model, algo, epochs=1)
    costs = {arch: cost(model, arch, metric) for arch in space_of(model)}
    low, high = min(costs.values()), max(costs.values())
    edges = np.linspace(low, high, 5)
    bins = Counter[int]()
    for step in range(40):
        ((path, fits),) = algo.sampled(step)
        rng = np.random.default_rng([1, step])
        at = int(rng.integers(4))
        assert fits == (edges[at] <= costs[path] <= edges[at + 1])
        bins[at] += fits
    # every bin holds an architecture: that 10 asks of a bin of 1 in 100 fail has probability 1e-20
    assert min(bins.values()) > 0
    row = run.run_epoch()
    assert row["in_bin"] == 1.0
    assert math.isfinite(row["loss"])


def cost(model: nn.Module, arch: Arch, metric: str) -> float:
    return raynas.costs.cost_of(freeze(model, arch), X[:1]).as_metrics()[metric]


def test_a_range_that_no_architecture_costs_is_refused_before_training() -> None:
    algo = plain(balance="params", balance_range=(1e6, 2e6))
    with pytest.raises(
        InvalidSpace, match=r"from 1e\+06 to 2e\+06; those of the space reach from 105 to 105"
    ):
        algo.check(net(2, 2), X[:2])
    with pytest.raises(InvalidSpace, match="none of 500 random architectures has params from 0 to"):
        plain(balance="params", balance_range=(0.0, 3.0)).check(net(2, 2), X[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": "macs", "balance_range": (3.0, 2.0)}, "balance_range must rise"),
        ({"balance": "macs", "balance_bins": 0}, "balance_bins must be at least 1, got 0"),
        ({"balance": "macs", "balance_tries": 0}, "balance_tries must be at least 1, got 0"),
        ({"balance_range": (1.0, 2.0)}, "pass balance='macs'"),
        ({"balance": "macs", "fairness": "strict"}, "exclude each other"),
        ({"fairness": "loose"}, "expected 'strict' or None, got 'loose'"),
        ({"warm_start_steps": -1}, "warm_start_steps must not be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPOS(**options)


# --- what a step moves ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"balance": "params"}])
def test_a_step_has_the_gradients_of_the_static_net_and_no_others(options: dict[str, Any]) -> None:
    model, algo = net(3, 2), plain(seed=0, **options)
    training(model, algo)
    for step in range(5):
        path = algo.path(step)
        _, expected = static(model, path)
        algo.training.step = step
        algo.step((X, Y), iter(()))
        for name, weight in model.named_parameters():
            assert (weight.grad is None) == (name not in expected)
            if weight.grad is not None:
                torch.testing.assert_close(weight.grad, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_a_candidate_off_the_path_has_neither_decay_nor_momentum(optimizer: str) -> None:
    """Bit for bit, in every step; and nothing is kept for one that never ran."""
    model, algo = net(40, 40), plain(seed=0)
    run = training(model, algo, optimizer=optimizer, lr=0.01, momentum=0.9, weight_decay=0.1)
    ran = set[str]()
    for step in range(6):
        run.step = step
        before = {name: w.detach().clone() for name, w in model.named_parameters()}
        algo.step((X, Y), iter(()))
        moved = {n for n, w in model.named_parameters() if not torch.equal(w, before[n])}
        assert moved == active(algo.path(step))
        ran |= moved
    held = {name for name, w in model.named_parameters() if run.optimizer.state.get(w)}
    assert held == ran


def active(path: Arch) -> set[str]:
    layers: Iterator[str] = (f"{at}.candidates.{path[str(at)]}" for at in range(len(path)))
    return {f"{layer}.{kind}" for layer in (*layers, str(len(path))) for kind in ("weight", "bias")}
