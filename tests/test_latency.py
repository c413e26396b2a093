"""Latency tables by hand and from files, expected latency by enumeration, and measured latency."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Subset
from raynas.costs import (
    Entry,
    LatencyTable,
    cost_bound,
    cost_of,
    latency_table,
    measure_latency,
)
from raynas.nn import Conv2d, LayerChoice, Linear, Repeat, ValueChoice, freeze, space_of
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import mutables
from tests.costnets import IMAGE, Transformer, cells, elastic_block, small_cell, stages

TWO = ArchSpace.of(first=["conv", "skip"], second=[3, 5])


def rows() -> list[Entry]:
    times: dict[tuple[str, Value], float] = {
        ("first", "conv"): 1.5,
        ("first", "skip"): 0.25,
        ("second", 3): 2.0,
        ("second", 5): 4.0,
    }
    return [Entry((), (), 10.0), *(Entry((k,), (v,), ms) for (k, v), ms in times.items())]


def test_two_choices_by_hand() -> None:
    table = LatencyTable(rows(), TWO)
    assert table.base_ms == 10.0
    found = {(a["first"], a["second"]): table.cost(a).latency_ms for a in TWO}
    assert found == {
        ("conv", 3): 13.5,
        ("conv", 5): 15.5,
        ("skip", 3): 12.25,
        ("skip", 5): 14.25,
    }
    assert table.cost({"first": "skip", "second": 3}).as_metrics() == {"latency_ms": 12.25}
    p = {"first": torch.tensor([0.5, 0.5]), "second": torch.tensor([0.75, 0.25])}
    for vector in p.values():
        vector.requires_grad_()
    expected = table.expected(p)
    assert expected.item() == 10 + 0.875 + 2.5
    expected.backward()
    grads = {label: vector.grad for label, vector in p.items()}
    assert grads["first"] is not None
    assert grads["second"] is not None
    assert grads["first"].tolist() == [1.5, 0.25]
    assert grads["second"].tolist() == [2.0, 4.0]
    low, high = (cost_bound(TWO, table, "latency_ms", goal) for goal in ("min", "max"))
    assert (low.value, high.value, low.exact, high.exact) == (12.25, 15.5, True, True)


@pytest.mark.parametrize("ending", ["parquet", "csv", "json"])
def test_files_give_back_the_table(ending: str, tmp_path: Path) -> None:
    inner = ArchSpace.of(wide=[0.5, 1.0], bias=[True, False])
    space = ArchSpace(
        (
            Choice("op", ("conv", "[odd", "1"), {"conv": inner}),
            Subset("from", ("a", "b", "c"), 2),
            Choice("free", ("x", "y")),
        )
    )
    entries = [
        Entry((), (), 1.0),
        *(Entry(("op",), (op,), 2.0 + at) for at, op in enumerate(space.choices[0].options)),
        *(Entry(("wide", "bias"), (w, b), 10 * w + b) for w in (0.5, 1.0) for b in (True, False)),
        Entry(("from",), ("b",), 7.5),
        Entry(("free",), ("*",), 0.5),
    ]
    table = LatencyTable(entries, space)
    path = tmp_path / f"table.{ending}"
    table.save(path)
    again = LatencyTable.load(path, space)
    assert again.entries == table.entries
    costs = {arch: table.cost(arch).latency_ms for arch in space}
    assert {arch: again.cost(arch).latency_ms for arch in space} == costs
    arch: dict[str, Value] = {
        "op": "conv",
        "wide": 0.5,
        "bias": True,
        "from": ("a", "b"),
        "free": "y",
    }
    assert table.cost(arch).latency_ms == 1 + 2 + 6 + 7.5 + 0.5


def test_expected_latency_is_the_sum_over_all_architectures() -> None:
    shared = Choice("shared", ("s", "t"))
    deep = ArchSpace((Choice("deep", (1, 2)), shared))
    space = ArchSpace(
        (
            Choice("a", ("x", "y"), {"x": deep}),
            Choice("b", ("u", "v"), {"v": ArchSpace((shared,))}),
            Subset("set", ("p", "q", "r"), 2, {"q": ArchSpace((Choice("q/op", (3, 5)),))}),
        )
    )
    rng = np.random.default_rng(0)
    entries = [
        Entry((label,), (option,), float(rng.uniform(1, 9)))
        for label, d in space.decisions.items()
        for option in d.options
    ]
    entries += [Entry(("deep", "b"), (2, "u"), 11.0), Entry(("shared", "set"), ("t", "r"), 13.0)]
    table = LatencyTable([Entry((), (), 3.0), *entries], space)
    p = {
        label: torch.from_numpy(rng.dirichlet(np.ones(len(d.options)))).requires_grad_()
        for label, d in space.decisions.items()
        if isinstance(d, Choice)
    }
    wanted = torch.zeros((), dtype=torch.float64)
    for arch in space:
        chance = torch.ones((), dtype=torch.float64)
        for label, d in space.reached(arch).items():
            one = isinstance(d, Choice)
            chance = chance * (p[label][d.index(arch[label])] if one else 1 / d.count())
        wanted = wanted + chance * table.cost(arch).latency_ms
    sets = {"set": torch.full((3,), 2 / 3, dtype=torch.float64)}
    came = table.expected(p | sets)
    torch.testing.assert_close(came, wanted, rtol=1e-12, atol=0)
    low = cost_bound(space, table, "latency_ms", "min")
    assert low.exact
    assert low.value == pytest.approx(min(table.cost(arch).latency_ms for arch in space))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e[:-1], "layer 'second', candidate 5: there is no latency"),
        (
            lambda e: [*e, Entry(("secnd",), (3,), 1.0)],
            "'secnd' is no decision; did you mean 'second'",
        ),
        (
            lambda e: [*e, Entry(("first",), ("con",), 1.0)],
            "layer 'first', candidate 'con' is none; did you mean 'conv'",
        ),
        (lambda e: [*e, Entry(("second",), (3,), 1.0)], "layer 'second', candidate '3' has two"),
        (lambda e: [*e[:-1], Entry(("second",), (5,), -1.0)], "candidate '5' is -1.0 ms"),
        (lambda e: [*e[:-1], Entry(("second",), (5,), float("nan"))], "candidate '5' is nan ms"),
    ],
)
def test_what_is_missing_or_wrong_is_named(change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LatencyTable(change(rows()), TWO)


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("layer,option,latency_ms\nfirst,conv,1\n")
    with pytest.raises(ValueError, match=r"expected columns layer, candidate, latency_ms \(or"):
        LatencyTable.load(path, TWO)
    path.write_text('layer,candidate,latency_ms\n"[""first"",""second""]",conv,1\n')
    with pytest.raises(ValueError, match="are not of one length"):
        LatencyTable.load(path, TWO)
    with pytest.raises(ValueError, match=r"ends in .parquet, .csv or .json"):
        LatencyTable.load(tmp_path / "table.xlsx", TWO)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_tables_of_fbnet(ending: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "layer": [2, 2, 3, 3],
            "block_idx": [0, 1, 1, 0],
            "latency_us": [1500.0, 250.0, 4000.0, 2000.0],
        }
    )
    path = tmp_path / f"lut.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path, index=False)
    table = LatencyTable.load(path, TWO)
    assert table.base_ms == 0.0
    assert table.cost({"first": "conv", "second": 5}).latency_ms == 5.5
    swapped = LatencyTable.load(path, TWO, layers={3: "first", 2: "second"})
    assert swapped.cost({"first": "conv", "second": 5}).latency_ms == 2.25
    with pytest.raises(ValueError, match="no label for layer 3"):
        LatencyTable.load(path, TWO, layers={2: "second"})
    three = ArchSpace.of(first=[1, 2], second=[1, 2], third=[1, 2])
    with pytest.raises(ValueError, match="has 2 layers, but the space has 3 choices: pass layers="):
        LatencyTable.load(path, three)
    with pytest.raises(ValueError, match="layer 'first', candidate 'third': there is no latency"):
        LatencyTable.load(path, ArchSpace.of(first=["a", "b", "third"], second=[1, 2]))
    with pytest.raises(ValueError, match="block_idx 1, but 'second' has only 1 options"):
        LatencyTable.load(path, ArchSpace.of(first=[1, 2], second=[1]))


class Sleeper(nn.Module):
    """Takes its time, and counts how often."""

    def __init__(self, ms: float = 0.0) -> None:
        super().__init__()
        self.ms, self.count, self.modes = ms, 0, set[tuple[bool, bool]]()

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.modes.add((self.training, torch.is_inference_mode_enabled()))
        time.sleep(self.ms / 1e3)
        return x + 1


def test_measured_latency_is_the_median() -> None:
    net, threads = nn.Sequential(Sleeper(3.0), nn.Dropout()), torch.get_num_threads()
    net[1].eval()
    found = measure_latency(net, torch.zeros(1, 2), warmup=2, repeats=5)
    sleeper = net[0]
    assert isinstance(sleeper, Sleeper)
    assert (sleeper.count, sleeper.modes) == (7, {(False, True)})
    assert (net.training, net[0].training, net[1].training) == (True, True, False)
    # time.sleep never returns early; how late it may return depends on the machine
    assert 3.0 <= found.min_ms <= found.median_ms < 1000.0
    assert found.mean_ms >= found.min_ms
    assert (found.repeats, found.device) == (5, "cpu")
    assert found.as_metrics() == {"latency_ms": found.median_ms}
    measure_latency(net, torch.zeros(1, 2), warmup=0, repeats=1, threads=threads + 1)
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="repeats of at least 1, got 1 and 0"):
        measure_latency(net, torch.zeros(1, 2), warmup=1, repeats=0)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        measure_latency(net, torch.zeros(1, 2), threads=0)


def test_a_network_elsewhere_is_copied() -> None:
    net = nn.Linear(2, 3)
    assert measure_latency(net, torch.zeros(1, 2), device="meta", repeats=1).device == "meta"
    assert net.weight.device.type == "cpu"


class Clock:
    """Time that passes only where a layer says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


class Slow(nn.Module):
    """Takes so many milliseconds by a clock."""

    def __init__(self, clock: Clock, ms: float) -> None:
        super().__init__()
        self.clock, self.ms = (clock,), ms

    def __deepcopy__(self, memo: dict[int, Any]) -> Slow:
        return Slow(self.clock[0], self.ms)  # a copy lives by the same clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock[0].seconds += self.ms / 1e3
        return x + 1


def test_candidates_are_measured_alone_and_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("raynas.costs.timing.time", clock)
    inner = LayerChoice({"fast": Slow(clock, 1.0), "slow": Slow(clock, 9.0)}, label="inner")
    both = nn.Sequential(Slow(clock, 4.0), inner)
    net = nn.Sequential(
        Slow(clock, 6.0),
        LayerChoice({"plain": Slow(clock, 1.5), "both": both}, "outer"),
        Repeat([Slow(clock, 2.0), Slow(clock, 5.0)], (1, 2), label="depth"),
    )
    net.train()
    table = latency_table(net, torch.zeros(1, 2), warmup=1, repeats=3)
    assert table.base_ms == pytest.approx(6.0)
    took: dict[Any, float] = {"plain": 1.5, "both": 4.0, "fast": 1.0, "slow": 9.0, 1: 2.0, 2: 7.0}
    for arch in space_of(net):
        due = 6.0 + sum(took[value] for value in arch.values())
        assert table.cost(arch).latency_ms == pytest.approx(due)
    assert net[0].training
    assert [mutable.route for mutable in mutables(net)] == [None] * 3
    table.save(tmp_path / "t.json")
    assert LatencyTable.load(tmp_path / "t.json", net).entries == table.entries


@pytest.mark.parametrize(
    "make", [cells, small_cell, Transformer], ids=["cells", "cell", "attention"]
)
def test_every_architecture_has_a_latency(make: Any, tmp_path: Path) -> None:
    net = make()
    space, x = space_of(net), torch.zeros((1, 4, 5) if make is Transformer else IMAGE)
    table = latency_table(net, x, warmup=0, repeats=1)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(20)]
    assert all(table.cost(arch).latency_ms > 0 for arch in archs)
    table.save(tmp_path / "t.parquet")
    again = LatencyTable.load(tmp_path / "t.parquet", space)
    for arch in archs:
        assert again.cost(arch).latency_ms == pytest.approx(table.cost(arch).latency_ms)


def test_an_edge_s_probabilities_may_include_zeros() -> None:
    net = small_cell()
    table = latency_table(net, torch.zeros(IMAGE), warmup=0, repeats=1)
    edges = [f"c/n0/op/{s}" for s in ("s0", "s1")] + [f"c/n1/op/{s}" for s in ("s0", "s1", "n0")]
    with_zeros = {label: torch.tensor([0.5, 0.25, 0.25]) for label in edges}  # zeros in the middle
    without = {label: torch.tensor([0.5, 0.25]) for label in edges}
    assert table.expected(with_zeros) == table.expected(without)
    ms = {e.candidate[0]: e.latency_ms for e in table.entries if e.layer[:1] == (edges[0],)}
    raised = table.expected(without | {edges[0]: torch.tensor([0.5, 1.25])}) - table.expected(
        without
    )
    assert raised.item() == pytest.approx(ms["wide"], rel=1e-3)


def test_a_space_makes_its_own_example() -> None:
    width = ValueChoice([2, 4], label="width")

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Sequential(Linear(4, width), Linear(width, 2)))

    space = ModelSpace(make, input_shape=(1, 2, 2))
    table = latency_table(space, warmup=0, repeats=1)
    assert {entry.candidate for entry in table.entries} == {(), (2,), (4,)}
    with pytest.raises(ValueError, match="pass example="):
        latency_table(make())
    with pytest.raises(ValueError, match="latency does not add up over parts: 'w0'"):
        latency_table(stages(6), torch.zeros(IMAGE))


def test_profiles_read_latency_tables(tmp_path: Path) -> None:
    block = nn.Sequential(Conv2d(1, 4, 1), elastic_block(4, "b"))
    table = latency_table(block, torch.zeros(IMAGE), warmup=0, repeats=1)
    table.save(tmp_path / "t.csv")
    found = raynas.profile(
        lambda: nn.Sequential(Conv2d(1, 4, 1), elastic_block(4, "b")),
        latency=str(tmp_path / "t.csv"),
        constraints="latency_ms<0",
        samples=10,
        input_shape=IMAGE[1:],
    )
    assert found.reaches[0].possible is False
    (reach,) = found.reaches
    assert reach.least.exact
    assert reach.least.value == pytest.approx(
        min(table.cost(arch).latency_ms for arch in space_of(block))
    )
    assert all(one.metrics["latency_ms"] > 0 for one in found.archs)
    assert cost_of(freeze(block, found.archs[0].arch), torch.zeros(IMAGE)).macs > 0
