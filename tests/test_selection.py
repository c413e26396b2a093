"""Selection by perturbation: schedule and decisions by hand, and what judging leaves untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.darts import DARTS
from raynas.algorithms.direct_grad import DirectGrad
from raynas.algorithms.gdas import GDAS
from raynas.algorithms.pc_darts import PCDARTS
from raynas.algorithms.proxyless import Proxyless
from raynas.algorithms.sgas import SGAS
from raynas.algorithms.snas import SNAS
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.gradient.base import Differentiable
from raynas.nn import LayerChoice
from raynas.nn.cell import Cell
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import SKIP
from raynas.supernet.training import SupernetTraining
from raynas.tasks.classification import Classification


class Feature(nn.Module):
    """Gives one feature of its input, times a number, as logits of two classes."""

    def __init__(self, at: int, scale: float = 1.0) -> None:
        super().__init__()
        self.at, self.scale = at, scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale * x[:, self.at]
        return torch.stack([-y, y], 1)


class Nothing(nn.Module):
    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :2])


class Sum(nn.Module):
    """Adds up what choices make of the input; an offset is its only weight."""

    def __init__(self, *choices: nn.Module) -> None:
        super().__init__()
        self.choices, self.offset = nn.ModuleList(choices), nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.offset + sum(choice(x) for choice in self.choices)
        return out


def signs(count: int = 40, *, exact: bool = False) -> TensorData:
    """Classes are the signs of feature 0; feature 1 has it on three quarters, feature 2 on none."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 2
    sign = 2.0 * y - 1
    wrong = torch.where(torch.arange(count) % 8 < 2, -1.0, 1.0)
    size = 1.0 if exact else 1 + torch.rand(count, 3, generator=rng)
    x = torch.stack([sign, wrong * sign, -sign], 1) * size
    data = TensorDataset(x.double(), y)
    return TensorData((data, data))


def attached(
    algo: Differentiable, net: nn.Module, data: TensorData | None = None, epochs: int = 8
) -> SupernetTraining:
    settings = TrainSettings(epochs=epochs, batch_size=8, lr=1e-9, label_smoothing=0.0)
    return SupernetTraining(net.double(), algo, data or signs(), settings)


def perturbed(**options: Any) -> DARTS:
    return DARTS(selection="perturbation", **options)


def chain(count: int) -> nn.Module:
    return Sum(*(LayerChoice([Feature(0), Feature(1)], f"c{k}") for k in range(count)))


@pytest.mark.parametrize(
    ("count", "search", "epochs", "expected"),
    [
        (3, 4, 10, [3, 5, 7]),  # two epochs of tuning after each
        (2, 5, 10, [4, 6]),
        (4, 2, 4, [1, 1, 2, 2]),  # two at a time
        (3, 6, 6, [5, 5, 5]),  # all at the end, without tuning
        (2, None, 9, [4, 6]),  # half of nine are five
    ],
)
def test_decisions_spread_over_what_follows_the_search(
    count: int, search: int | None, epochs: int, expected: list[int]
) -> None:
    algo = perturbed(search_epochs=search)
    run = attached(algo, chain(count), epochs=epochs)
    found, before = [], 0
    for epoch in range(epochs):
        row = run.run_epoch()
        found += (len(algo.relaxation.fixed) - before) * [epoch]
        before = len(algo.relaxation.fixed)
        assert row["undecided"] == count - before
    assert found == expected


def test_the_search_holds_the_warm_up_and_half_of_what_follows() -> None:
    algo = perturbed(warmup_epochs=4)
    attached(algo, chain(1), epochs=10)
    assert algo.perturbation is not None
    assert algo.perturbation.search_epochs == 7


def test_the_learning_rate_begins_again_at_a_tenth() -> None:
    """A cosine of 1 to 0.04 over the search, then a tenth of one over the tuning."""
    algo = perturbed(search_epochs=6)
    attached(algo, chain(1), epochs=10)
    found = [algo.lr_scale(step, 100) for step in (0, 30, 60, 80)]
    assert found == pytest.approx([1.0, 0.52, 0.1, 0.052])
    plain = DARTS()
    attached(plain, chain(1), epochs=10)
    assert plain.lr_scale(50, 100) == pytest.approx(0.52)


def test_a_dropped_candidate_gives_zeros_and_the_others_keep_their_weights() -> None:
    algo, x = perturbed(), torch.tensor([[1.0, 10.0, 100.0]]).double()
    net = Sum(LayerChoice([Feature(0), Feature(1), Feature(2)], "c"))
    run = attached(algo, net)
    algo.relaxation.vectors["c"].data = torch.log(torch.tensor([2.0, 1.0, 1.0])).double()
    whole = 0.5 + 2.5 + 25
    for at, expected in ((0, whole - 0.5), (1, whole - 2.5), (2, whole - 25)):
        with algo.relaxation.without("c", at):
            assert float(run.model(x)[0, 1].detach()) == pytest.approx(expected)
    assert float(run.model(x)[0, 1].detach()) == pytest.approx(whole)


def test_what_is_missed_is_kept_and_not_what_is_probable() -> None:
    """Candidates of weights (.1, .3, .6) give features 0, 1 and -0, of scales 10, 1 and 1.

    The sum is 1.0 x0 + 0.3 x1 + 0.6 x2, where x2 is opposed to x0: without the first, it is wrong
    on all, without the second on none, and without the third on none as well, though that is the
    most probable.
    """
    algo = perturbed(search_epochs=1, alpha_lr=1e-9)
    net = Sum(LayerChoice([Feature(0, 10.0), Feature(1), Feature(2)], "c"))
    run = attached(algo, net, epochs=1)
    algo.relaxation.vectors["c"].data = torch.log(torch.tensor([0.1, 0.3, 0.6])).double()
    assert algo.derive() == {"c": 2}
    run.run_epoch()
    assert algo.derive() == {"c": 0}
    assert algo.relaxation.fixed == {"c": 0}


def test_equal_rewards_go_to_the_most_probable() -> None:
    algo = perturbed(search_epochs=1, alpha_lr=1e-9)
    net = Sum(LayerChoice([Feature(0), Feature(0), Feature(0)], "c"))
    run = attached(algo, net, epochs=1)
    algo.relaxation.vectors["c"].data = torch.tensor([0.1, 0.3, 0.2]).double()
    run.run_epoch()
    assert algo.derive() == {"c": 1}


def cell() -> nn.Module:
    """A node of three in-edges, of which two stay; each picks between two features or zeros."""

    def edge(_: int, source: int) -> dict[str, nn.Module]:
        feature, scale = ((2, 2.0), (0, 1.0), (1, 0.5))[source]
        return {"none": Nothing(), "a": Feature(feature, scale), "b": Feature(feature, scale)}

    return Cell(edge, 1, 2, 3, label="cell")


class Parallel(nn.Module):
    """Gives the cell the same input three times."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.offset = cell(), nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.offset + self.cell([x, x, x])
        return out


def test_operations_come_first_and_then_the_edges_that_are_missed() -> None:
    """Decided, the node gives 2 x2 + x0 + 0.5 x1 = sign (-2 + 1 +- 0.5), wrong on all.

    So it is without s1 and without s2; without s0 it is right on all, and s0 is left out.
    """
    algo = perturbed(search_epochs=1, alpha_lr=1e-9)
    run = attached(algo, Parallel(), signs(exact=True), epochs=5)
    sources = ["s0", "s1", "s2"]
    for source in sources:
        algo.relaxation.vectors[f"cell/n0/op/{source}"].data = torch.tensor([3.0, 1, 0]).double()
    assert algo.perturbation is not None
    assert algo.perturbation.rounds == 4
    for decided in (1, 2, 3):
        run.run_epoch()
        assert len(algo.relaxation.fixed) == decided
        assert SKIP not in algo.relaxation.fixed.values()
        assert 0 not in algo.relaxation.fixed.values()  # zeros are no operation
    run.run_epoch()
    fixed = {label[-2:]: route for label, route in algo.relaxation.fixed.items()}
    assert fixed == {"s0": SKIP, "s1": 1, "s2": 1}
    assert algo.derive()["cell/n0/from"] == ("s1", "s2")


def test_the_order_is_a_function_of_the_seed() -> None:
    orders = []
    for seed in (0, 0, 1, 2):
        algo, order = perturbed(seed=seed, search_epochs=1), list[str]()
        run = attached(algo, chain(6), epochs=7)
        for _ in range(6):
            run.run_epoch()
            order += [label for label in algo.relaxation.fixed if label not in order]
        orders.append(order)
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == [f"c{k}" for k in range(6)] for order in orders)


class Noisy(nn.Module):
    """Batch statistics and dropout, and what mode its passes ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.modes: list[tuple[bool, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append((self.training, self.norm.training, self.drop.training))
        out: Tensor = self.drop(self.norm(x))[:, :2]
        return out


def test_judging_leaves_statistics_modes_and_routes_as_they_were() -> None:
    algo, noisy = perturbed(search_epochs=1), Noisy()
    run = attached(algo, Sum(LayerChoice([noisy, Feature(0)], "c")), epochs=1)
    run.model.train()
    algo.valid = run._valid_batches()
    route = [m.route for m in run.model.modules() if isinstance(m, LayerChoice)]
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    assert algo.perturbation is not None
    worth = algo.perturbation._worth_without([("c", 0), ("c", 1)], algo.valid)
    assert worth[0] == 1.0  # feature 0 alone
    assert set(noisy.modes) == {(False, True, False)}
    assert all(torch.equal(before[k], v) for k, v in run.model.state_dict().items())
    assert noisy.training
    assert noisy.norm.training
    assert noisy.drop.training
    assert [m.route for m in run.model.modules() if isinstance(m, LayerChoice)] == route


def test_idle_weights_are_freed_and_a_decided_search_goes_on() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(3, 2) for _ in range(3)]
    algo = perturbed(search_epochs=1)
    run = attached(algo, Sum(LayerChoice(layers, "c")), epochs=3)
    run.run_epoch()
    (at,) = algo.relaxation.fixed.values()
    assert [bool(layer.weight.any()) for layer in layers] == [k == at for k in range(3)]
    row = run.run_epoch()
    assert "valid_loss" not in row
    assert row["entropy"] == 0.0


def test_partial_channels_and_edges_are_decided_and_resumed() -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        layers = [LayerChoice([nn.Linear(4, 4), nn.Tanh(), nn.Identity()]) for _ in range(2)]
        node = Cell({"none": Zeros(), "a": nn.Linear(4, 4), "b": nn.Tanh()}, 2, 1, 1, label="cell")
        return nn.Sequential(nn.Linear(3, 4), *layers, node, nn.Linear(8, 2)).double()

    found = []
    for stop in (None, 3):
        space = ModelSpace(net, input_shape=(3,))
        made = [
            PCDARTS(
                partial=2, warmup_epochs=1, selection="perturbation", search_epochs=2, alpha_lr=0.1
            )
            for _ in range(2)
        ]
        supernets = [made[0].supernet_space(space).supernet(seed) for seed in (0, 1)]
        algo = made[0]
        run = attached(algo, supernets[0], epochs=6)
        for epoch in range(6):
            if epoch == stop:
                state, weights = run.state_dict(), run.model.state_dict()
                algo = made[1]
                run = attached(algo, supernets[1], epochs=6)
                run.model.load_state_dict(weights)
                run.load_state_dict(state)
            run.run_epoch()
        assert len(algo.relaxation.fixed) == 5
        found.append((algo.relaxation.fixed, algo.derive(), run.model.state_dict()))
    assert found[0][:2] == found[1][:2]
    assert all(torch.equal(found[1][2][key], value) for key, value in found[0][2].items())


class Zeros(nn.Module):
    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_what_cannot_be_is_refused() -> None:
    one_at_a_time: list[Callable[[], Differentiable]] = [
        lambda: GDAS(selection="perturbation"),
        lambda: Proxyless(selection="perturbation"),
        lambda: SNAS(selection="perturbation", estimator="reinmax"),
        lambda: DirectGrad(selection="perturbation", mixed_op="uniform_gate"),
    ]
    for make in one_at_a_time:
        with pytest.raises(ValueError, match="one sampled candidate runs at a time"):
            make()
    with pytest.raises(ValueError, match="sgas decides edges by a criterion of its own"):
        SGAS(selection="perturbation")
    with pytest.raises(ValueError, match="selection is one of magnitude, perturbation, got 'pt'"):
        DARTS(selection="pt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="search_epochs goes with selection='perturbation'"):
        DARTS(search_epochs=3)
    with pytest.raises(ValueError, match="search_epochs must be at least 1, got 0"):
        perturbed(search_epochs=0)
    late = perturbed(search_epochs=9)
    with pytest.raises(ValueError, match="search_epochs=9 come before the first decision"):
        late.check_settings(TrainSettings(epochs=8))
    with pytest.raises(ValueError, match="search_epochs=9 come before the first decision"):
        attached(late, chain(1), epochs=8)


def test_a_reward_that_is_undefined_is_not_what_is_missed() -> None:
    """Without the first candidate the metric is no number; without the second it is worst."""

    def share_or_nothing(output: Tensor, _: Tensor) -> float:
        return (
            float("nan") if float(output[:, 0].abs().max()) < 1e-6 else float(output[:, 1].mean())
        )

    data = signs(exact=True)
    data.task = Classification(metrics={"own": share_or_nothing}, objective="own")
    algo = perturbed(search_epochs=1, alpha_lr=1e-9)
    run = attached(algo, Sum(LayerChoice([Constant(1.0), Constant(0.0)], "c")), data, epochs=1)
    algo.relaxation.vectors["c"].data.zero_()
    algo.valid = run._valid_batches()
    run.model.train()
    assert algo.perturbation is not None
    worth = algo.perturbation._worth_without([("c", 0), ("c", 1)], algo.valid)
    assert worth.tolist() == [float("inf"), 0.5]
    run.run_epoch()
    assert algo.derive() == {"c": 1}


class Constant(nn.Module):
    """Gives the same logits whatever comes in."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x[:, :2], self.value)
