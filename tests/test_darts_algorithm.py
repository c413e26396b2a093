"""DARTS: the second-order gradient against an exact one, the order of its step, its derivation."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

from raynas.algorithms.darts import DARTS
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.gradient.unrolled import unrolled_gradients
from raynas.nn import LayerChoice, freeze, space_of
from raynas.nn.cell import Cell
from raynas.nn.mutable import activate
from raynas.supernet.protocol import Batch
from raynas.supernet.training import SupernetTraining

SMOOTHING, LR, MOMENTUM, DECAY = 0.1, 0.1, 0.9, 0.01


def mlp() -> nn.Module:
    """Smooth candidates, one of them with a choice of its own, and two of one label."""
    torch.manual_seed(1)
    inner = LayerChoice([nn.Linear(6, 6), nn.Tanh()], "inner")
    shared = [
        LayerChoice([nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.Sigmoid())], "shared")
        for _ in range(2)
    ]
    outer = LayerChoice([nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), inner)], "outer")
    return nn.Sequential(outer, *shared, nn.Linear(6, 3)).double()


def normed() -> nn.Module:
    torch.manual_seed(1)
    layers = [
        LayerChoice([nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), nn.Tanh()])
        for _ in range(2)
    ]
    return nn.Sequential(*layers, nn.BatchNorm1d(6), nn.Linear(6, 3)).double()


def attached(net: nn.Module, **options: Any) -> tuple[DARTS, SupernetTraining]:
    algo = DARTS(seed=1, **options)
    settings = TrainSettings(
        epochs=2,
        batch_size=16,
        lr=LR,
        momentum=MOMENTUM,
        nesterov=False,
        weight_decay=DECAY,
        label_smoothing=SMOOTHING,
        clip=None,
    )
    half = [TensorDataset(*batch(seed)) for seed in (1, 2)]
    run = SupernetTraining(net, algo, TensorData(half), settings)
    for label, vector in algo.relaxation.vectors.items():
        rng = torch.Generator().manual_seed(len(label))
        vector.data = torch.randn(vector.shape, generator=rng, dtype=torch.float64)
    run.model.train()
    return algo, run


def batch(seed: int) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 6, generator=rng, dtype=torch.float64)
    return x, torch.randint(3, (16,), generator=rng)


def entropy(out: Tensor, y: Tensor, smoothing: float) -> Tensor:
    return nn.functional.cross_entropy(out, y, label_smoothing=smoothing)


def exact(algo: DARTS, run: SupernetTraining, train: Batch, valid: Batch) -> list[Tensor]:
    """Return the gradient through the virtual step, by differentiating it."""
    named = dict(run.model.named_parameters())
    alphas = list(algo.relaxation.vectors.values())
    weights = list(named.values())
    inner = entropy(run.model(train[0]), train[1], SMOOTHING)
    slope = torch.autograd.grad(inner, weights, create_graph=True)
    buffers = [
        run.optimizer.state.get(w, {}).get("momentum_buffer", torch.zeros_like(w)) for w in weights
    ]
    virtual = {
        name: w - LR * (MOMENTUM * v + g + DECAY * w)
        for (name, w), v, g in zip(named.items(), buffers, slope, strict=True)
    }
    outer = entropy(functional_call(run.model, virtual, (valid[0],)), valid[1], 0.0)
    return list(torch.autograd.grad(outer, alphas))


@pytest.mark.parametrize("momentum", [False, True])
def test_the_unrolled_gradient_is_the_exact_one(momentum: bool) -> None:
    """Up to the error of the finite difference; the first-order one is far from it."""
    algo, run = attached(mlp())
    train, valid = batch(1), batch(2)
    if momentum:
        run.descend(run.loss(batch(3)))
        assert any("momentum_buffer" in state for state in run.optimizer.state.values())
    value, found = unrolled_gradients(algo, train, valid, algo.alphas)
    expected = exact(algo, run, train, valid)
    error = torch.cat(found) - torch.cat(expected)
    assert error.norm() / torch.cat(expected).norm() < 1e-5
    loss = run.loss(valid, smoothing=0.0)
    first = torch.cat(torch.autograd.grad(loss, algo.alphas))
    assert (first - torch.cat(expected)).norm() / torch.cat(expected).norm() > 0.01
    assert value.item() != loss.item()  # it is the virtual weights' loss


def test_a_decided_choice_is_left_out_of_the_unrolled_gradient() -> None:
    algo, run = attached(mlp())
    algo.relaxation.fix("shared", 1)
    _, found = unrolled_gradients(algo, batch(1), batch(2), algo.alphas)
    algo_2, run_2 = attached(mlp())
    with torch.no_grad():
        algo_2.relaxation.vectors["shared"][:] = torch.tensor([-60.0, 60.0])
    expected = exact(algo_2, run_2, batch(1), batch(2))
    assert len(found) == 2
    live = [expected[list(algo.relaxation.vectors).index(label)] for label in ("outer", "inner")]
    torch.testing.assert_close(torch.cat(found), torch.cat(live), rtol=1e-5, atol=1e-9)
    assert run.optimizer.state == {}


def everything(run: SupernetTraining) -> dict[str, Tensor]:
    """Return copies of weights, statistics and momentum."""
    found = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for name, weight in run.model.named_parameters():
        state = run.optimizer.state.get(weight, {})
        found |= {f"{name}/{key}": value.clone() for key, value in state.items()}
    return found


@pytest.mark.parametrize("unrolled", [True, False])
def test_a_step_of_the_logits_leaves_all_else_as_it_was(unrolled: bool) -> None:
    """Bit for bit; a first-order pass runs on the weights themselves and moves their statistics."""
    algo, run = attached(normed(), alpha_lr=0.1)
    run.descend(run.loss(batch(3)))
    run.optimizer.zero_grad(set_to_none=True)
    before, alphas = everything(run), [a.detach().clone() for a in algo.alphas]
    for _ in range(3):
        if unrolled:
            loss, found = unrolled_gradients(algo, batch(1), batch(2), algo.alphas)
            algo.descend(algo.alphas, loss, found)
        else:
            algo.alpha_step(batch(2), algo.alphas)
    after = everything(run)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    kinds = {name.rsplit(".", 1)[-1] for name in moved}
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    assert kinds == (set() if unrolled else statistics)
    assert before.keys() == after.keys()
    assert not any(torch.equal(a, b) for a, b in zip(algo.alphas, alphas, strict=True))
    assert all(weight.grad is None for weight in run.model.parameters())


def test_logits_come_before_weights() -> None:
    """Logits move by the old weights' gradient, then weights by the new logits'."""
    algo, run = attached(mlp(), alpha_lr=0.1)
    net = copy.deepcopy(run.model)
    other, second = attached(net, alpha_lr=0.1)
    adam = torch.optim.Adam(other.relaxation.vectors.values(), 0.1, (0.5, 0.999), weight_decay=1e-3)
    train, valid = batch(1), batch(2)
    metrics = algo.step(train, itertools.repeat(valid))
    loss = entropy(net(valid[0]), valid[1], 0.0)
    assert metrics["valid_loss"] == pytest.approx(loss.item())
    loss.backward()
    adam.step()
    second.optimizer.zero_grad()
    loss = entropy(net(train[0]), train[1], SMOOTHING)
    assert metrics["loss"] == pytest.approx(loss.item())
    loss.backward()
    second.optimizer.step()
    for label, vector in algo.relaxation.vectors.items():
        torch.testing.assert_close(vector, other.relaxation.vectors[label], rtol=0, atol=1e-12)
    for a, b in zip(run.model.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_step_of_the_weights_computes_no_gradient_for_the_logits() -> None:
    algo, _ = attached(mlp())
    algo.weight_step(batch(1))
    assert all(alpha.grad is None for alpha in algo.relaxation.vectors.values())


def test_no_logits_are_learned_while_warming_up() -> None:
    algo, run = attached(mlp(), alpha_lr=0.1, warmup_epochs=1)
    before = [v.detach().clone() for v in algo.relaxation.vectors.values()]
    rows = [run.run_epoch()]
    assert all(map(torch.equal, before, algo.relaxation.vectors.values()))
    rows.append(run.run_epoch())
    assert not any(map(torch.equal, before, algo.relaxation.vectors.values()))
    assert ["valid_loss" in row for row in rows] == [False, True]


class Nothing(nn.Module):
    """Gives zeros."""

    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def cells() -> nn.Module:
    """A cell of three nodes, each with two of two to four in-edges."""
    torch.manual_seed(0)
    ops = {"a": nn.Linear(6, 6), "none": Nothing(), "b": nn.Linear(6, 6), "c": nn.Tanh()}

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Cell(ops, 3, 2, 2, label="cell")
            self.head = nn.Linear(18, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.cell(x, x))
            return logits

    return Twice().double()


def test_zeros_never_win_and_the_strongest_edges_are_kept() -> None:
    net = cells()
    algo, _ = attached(net)
    p = {  # over a, none, b, c
        "n0/op/s0": [0.01, 0.97, 0.01, 0.01],
        "n0/op/s1": [0.0, 0.99, 0.004, 0.006],
        "n1/op/s0": [0.1, 0.6, 0.2, 0.1],  # the largest real one counts, not their sum
        "n1/op/s1": [0.15, 0.4, 0.15, 0.3],
        "n1/op/n0": [0.25, 0.2, 0.25, 0.25],
        "n2/op/s0": [0.3, 0.4, 0.2, 0.1],
        "n2/op/s1": [0.1, 0.4, 0.2, 0.3],
        "n2/op/n0": [0.1, 0.5, 0.3, 0.1],
        "n2/op/n1": [0.3, 0.1, 0.3, 0.3],
    }
    for label, vector in algo.relaxation.vectors.items():
        values = np.maximum(p[label.removeprefix("cell/")], 1e-12)
        vector.data = torch.from_numpy(np.log(values))
    arch = algo.derive()
    assert {key.removeprefix("cell/"): value for key, value in arch.items()} == {
        "n0/from": ("s0", "s1"),
        "n0/op/s0": "a",
        "n0/op/s1": "c",
        "n1/from": ("s1", "n0"),
        "n1/op/s1": "c",
        "n1/op/n0": "a",
        "n2/from": ("s0", "s1"),  # four edges tie: the lowest two
        "n2/op/s0": "a",
        "n2/op/s1": "c",
    }
    space_of(net).check(arch)
    activate(net.eval(), arch)
    x = batch(4)[0]
    assert torch.equal(freeze(net, arch)(x), net(x))


def test_equal_logits_give_the_first_of_all() -> None:
    algo, _ = attached(cells())
    for vector in algo.relaxation.vectors.values():
        vector.data.zero_()
    arch = algo.derive()
    assert [arch[f"cell/n{i}/from"] for i in range(3)] == [("s0", "s1")] * 3
    assert {v for k, v in arch.items() if "/op/" in k} == {"a"}


def test_the_likeliest_cells_differ_from_the_derived_one() -> None:
    net = cells()
    algo, _ = attached(net)
    found = algo.top_k(30)
    assert found[0] == algo.derive()
    assert len({tuple(sorted(arch.items())) for arch in found}) == 30
    for arch in found:
        space_of(net).check(arch)
