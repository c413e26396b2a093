"""Cells: their decisions, their graphs, and what they refuse."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raynas.core.decision import Subset
from raynas.core.errors import InvalidArch, InvalidSpace
from raynas.nn import Cell, LayerChoice, SlotCell, activate, freeze, space_of
from tests.laws import keeps_the_laws


def rows(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, B = rows(0), rows(1)


class Scale(nn.Module):
    """Multiplies by a number, and adds what else it is given."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by, dtype=torch.float64))

    def forward(self, x: Tensor, more: float = 0.0) -> Tensor:
        return x * self.by + more


class Zeros(nn.Module):
    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def darts(**options: Any) -> Cell:
    ops: Any = {"none": lambda *_: Zeros(), "twice": Scale(2.0), "thrice": Scale(3.0)}
    return Cell(ops, 3, 2, 2, label="c", **options)


def test_decisions_of_distinct_inputs() -> None:
    space = space_of(darts())
    assert space.labels[:3] == ("c/n0/from", "c/n0/op/s0", "c/n0/op/s1")
    node = space.decisions["c/n2/from"]
    assert isinstance(node, Subset)
    assert (node.options, node.k) == (("s0", "s1", "n0", "n1"), 2)
    assert space.decisions["c/n2/op/n1"].options == ("twice", "thrice")  # zeros are never picked
    assert space.size() == math.prod(math.comb(n, 2) * 2**2 for n in (2, 3, 4))


def test_decisions_of_any_inputs() -> None:
    space = space_of(darts(inputs="any"))
    assert space.labels[:4] == ("c/n0/from0", "c/n0/op0", "c/n0/from1", "c/n0/op1")
    assert space.decisions["c/n2/from1"].options == ("s0", "s1", "n0", "n1")
    assert space.size() == math.prod((n * 2) ** 2 for n in (2, 3, 4))


def test_a_cell_of_any_inputs_is_a_slot_cell() -> None:
    ops = [Scale(2.0), Scale(3.0)]
    for made, kind in ((Cell(ops, 2), Cell), (Cell(ops, 2, 2, inputs="any"), SlotCell)):
        for cell in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert type(cell) is kind
            assert space_of(cell).labels[0].startswith("Cell/n0/from")  # as run folders hold it
    by_word, by_class = (
        Cell(ops, 2, 2, 2, label="c", inputs="any"),
        SlotCell(ops, 2, 2, 2, label="c"),
    )
    assert space_of(by_word) == space_of(by_class)
    assert list(by_word.state_dict()) == list(by_class.state_dict())
    with pytest.raises(TypeError, match="inputs"):
        SlotCell(ops, 2, inputs="any")  # type: ignore[call-arg]


def test_a_subclass_of_cell_is_never_a_slot_cell() -> None:
    class Own(Cell):
        pass

    assert type(Own([Scale(2.0)], 2)) is Own
    with pytest.raises(InvalidSpace, match=r"'c': Own derives from Cell.*raynas\.nn\.SlotCell"):
        Own([Scale(2.0)], 2, label="c", inputs="any")


def test_a_cell_by_hand() -> None:
    cell = darts()
    arch: dict[str, Any] = {
        "c/n0/from": ("s0", "s1"),
        "c/n0/op/s0": "twice",
        "c/n0/op/s1": "thrice",
        "c/n1/from": ("s1", "n0"),
        "c/n1/op/s1": "twice",
        "c/n1/op/n0": "twice",
        "c/n2/from": ("s0", "n1"),
        "c/n2/op/s0": "thrice",
        "c/n2/op/n1": "thrice",
    }
    n0 = 2 * A + 3 * B
    n1 = 2 * B + 2 * n0
    n2 = 3 * A + 3 * n1
    activate(cell, arch)
    for run in (cell, freeze(cell, arch)):
        torch.testing.assert_close(run(A, B), torch.cat([n0, n1, n2], 1))
        assert torch.equal(run([A, B]), run(A, B))
    assert cell.describe(arch) == [
        [[["twice"], [0], 2], [["thrice"], [1], 2]],
        [[["twice"], [1], 3], [["twice"], [2], 3]],
        [[["thrice"], [0], 4], [["thrice"], [3], 4]],
    ]
    kept = freeze(cell, arch).state_dict()
    assert len(kept) == 6
    assert "edges.n0_s0.by" in kept


class Watched(nn.Module):
    """A 1x1 convolution that keeps the gradient of its output as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gradients = nn.Conv2d(2, 2, 1), list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        y.register_hook(self.gradients.append)
        return y.view_as(y)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_of_the_nodes_are_laid_out_as_the_nodes(layout: torch.memory_format) -> None:
    cell = Cell({"conv": lambda *_: Watched()}, 2, label="c").train()
    activate(cell, space_of(cell).sample(np.random.default_rng(0)))
    y = cell(torch.randn(2, 2, 4, 4).contiguous(memory_format=layout))
    weights = torch.randn(y.shape).contiguous(memory_format=layout)
    (y * weights).sum().backward()
    gradients = [g for m in cell.modules() if isinstance(m, Watched) for g in m.gradients]
    assert len(gradients) == 2
    assert all(g.is_contiguous(memory_format=layout) for g in gradients)


def test_loose_ends_by_hand() -> None:
    cell = Cell([Scale(2.0)], 3, 1, 2, merge_op="loose_end", label="c", inputs="any")
    arch: dict[str, Any] = {f"c/n{i}/from0": source for i, source in enumerate(("s0", "n0", "s1"))}
    arch |= {f"c/n{i}/op0": 0 for i in range(3)}
    activate(cell, arch)
    expected = torch.cat([torch.zeros_like(A), 4 * A, 2 * B], 1)
    assert torch.equal(cell(A, B), expected)
    assert torch.equal(freeze(cell, arch)(A, B), expected)


class Nested(nn.Module):
    """Cells of one label, one of another, processors, inner choices and further arguments."""

    def __init__(self, **options: Any) -> None:
        super().__init__()

        def candidates(node: int, source: int) -> dict[str, nn.Module]:
            deep = LayerChoice({"x": Scale(0.5), "y": Scale(-1.0)})
            return {"none": Zeros(), "plain": Scale(1.0 + node + source), "deep": deep}

        self.first = Cell(candidates, 2, 2, 2, label="same", **options)
        self.second = Cell(candidates, 2, 2, 2, label="same", preprocessor=Halves(), **options)
        self.third = Cell(candidates, 1, 1, 2, postprocessor=Both(), concat_dim=2, **options)

    def forward(self, a: Tensor, b: Tensor) -> Any:
        c = self.first(a, b, 0.25)
        return self.third([self.second([c, a], more=1.0)[:, :3], b])


class Halves(nn.Module):
    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [x[:, :3] * 0.5 for x in inputs]


class Both(nn.Module):
    def forward(self, out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        return [inputs[-1], out]


@pytest.mark.parametrize("inputs", ["distinct", "any"])
@pytest.mark.parametrize("merge_op", ["all", "loose_end"])
def test_laws(inputs: str, merge_op: str) -> None:
    net = Nested(inputs=inputs, merge_op=merge_op)
    keeps_the_laws(net, A, B, samples=30)
    assert space_of(net).labels[0].startswith("same/n0/from")
    labels = space_of(net).labels
    assert any(label.startswith("third/n0/") for label in labels)
    deep = [label for label in labels if label.endswith(".deep")]
    assert all(label.startswith(("same.", "third.")) for label in deep)  # none of its own in second
    assert len(deep) == (2 + 3 + 2 if inputs == "distinct" else 2 + 2 + 1)


def test_only_active_weights_get_gradients() -> None:
    cell = darts()
    arch = space_of(cell).sample(np.random.default_rng(0))
    activate(cell, arch)
    cell(A, B).sum().backward()
    assert sum(p.grad is not None for p in cell.parameters()) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_nodes": 0}, "'c': num_nodes must be a whole number of at least 1, got 0"),
        ({"num_nodes": 1.5}, r"num_nodes .* got 1\.5"),
        ({"num_nodes": "2"}, "num_nodes .* got '2'"),
        ({"preprocessor": 3}, "preprocessor must be an nn.Module, got 3"),
        ({"op_candidates": None}, "stand in a dict, a list or a function, got None"),
        ({"op_candidates": {"a": 3}}, "operation 'a' must be an nn.Module, got a int"),
        ({"op_candidates": {"a": lambda x: x}}, "must take 3 positions"),
        ({"op_candidates": lambda a, b: [a, b]}, "must return operations by name"),
        ({"num_predecessors": 0}, "num_predecessors"),
        ({"num_ops_per_node": 2}, "node 0 picks 2 of only 1 sources"),
        ({"merge_op": "some"}, "merge_op is one of"),
        ({"inputs": "all"}, "inputs is one of"),
        ({"op_candidates": []}, "edge n0 from s0 needs at least one operation"),
        ({"op_candidates": {"none": Zeros()}}, "needs an operation, not zeros"),
        ({"op_candidates": {"a": lambda *_: 3}}, "must be an nn.Module, got a int"),
    ],
)
def test_impossible_cells_are_refused(options: dict[str, Any], said: str) -> None:
    whole: dict[str, Any] = {
        "op_candidates": {"a": Scale(1.0)},
        "num_nodes": 2,
        "label": "c",
    } | options
    with pytest.raises(InvalidSpace, match=said):
        Cell(**whole)


class Mixed(nn.Module):
    """A processor with a choice of its own."""

    def __init__(self, many: bool) -> None:
        super().__init__()
        self.choice = LayerChoice({"less": Scale(0.5), "more": Scale(0.7), "twice": Scale(2.0)})
        self.many = many

    def forward(self, given: Any, *_: Any) -> Any:
        return [self.choice(x) for x in given] if self.many else self.choice(given)


def test_choices_in_processors_belong_to_the_space() -> None:
    ops = {"a": Scale(1.0), "b": Scale(3.0)}
    cell = Cell(ops, 2, 1, 2, label="c", preprocessor=Mixed(True), postprocessor=Mixed(False))
    space = space_of(cell)
    assert {"c.pre.choice", "c.post.choice"} <= set(space.labels)
    keeps_the_laws(cell, A, B)
    arch = space.sample(np.random.default_rng(0))
    with pytest.raises(InvalidArch, match="nodes and beside"):
        cell.parsed(cell.describe(arch)["nodes"])


def test_a_frozen_cell_keeps_every_module_s_mode() -> None:
    cell = Cell({"n": nn.BatchNorm1d(3)}, 1, 1, 1, label="c")
    cell.train()
    for edge in cell.edges.values():
        edge.candidates["n"].eval()  # type: ignore[index, union-attr]
    net = freeze(cell, space_of(cell).sample(np.random.default_rng(0)))
    assert net.training
    assert [m.training for m in net.modules() if isinstance(m, nn.BatchNorm1d)] == [False]


def test_wrong_inputs_and_descriptions_are_refused() -> None:
    cell = darts()
    arch = space_of(cell).sample(np.random.default_rng(0))
    with pytest.raises(RuntimeError, match=r"'c/n0/op/s0'.*activate"):
        cell(A, B)
    activate(cell, arch)
    with pytest.raises(ValueError, match=r"'c'.*expected 2 inputs, got 1"):
        cell(A)
    good = cell.describe(arch)
    for bad, said in (
        (None, "a list of 3 nodes"),
        (good[:2], "a list of 3 nodes"),
        ([good[0], good[1], [*good[2], good[2][0]]], "c/n2/from"),
        ([good[0], good[1], good[2][:1]], "c/n2/from"),
        ([[[["twice"], [2], 2], good[0][1]], *good[1:]], "node 0.*source below 2"),
        ([[[["twice"], [-1], 2], good[0][1]], *good[1:]], "node 0"),
        ([[[["twice"], [0], 3], good[0][1]], *good[1:]], "node 0"),
        ([[[["none"], [0], 2], good[0][1]], *good[1:]], "c/n0/op/s0"),
        ([[[["twic"], [0], 2], good[0][1]], *good[1:]], "did you mean 'twice'"),
        ([7, *good[1:]], "node 0"),
    ):
        with pytest.raises(InvalidArch, match=said):
            cell.parsed(bad)
