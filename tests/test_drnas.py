"""DrNAS: its distribution and gradients by hand, the distance to the anchor, and its stages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Dirichlet, kl_divergence
from torch.utils.data import TensorDataset

from raynas.algorithms.drnas import Anchor, DrNAS
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.gradient.mixed.dirichlet_sum import DirichletSum, concentrations, divergence
from raynas.nn import LayerChoice, freeze, space_of
from raynas.nn.cell import Cell
from raynas.nn.modelspace import ModelSpace
from raynas.nn.mutable import activate
from raynas.supernet.training import SupernetTraining


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_concentrations_by_hand() -> None:
    logits = vector(2.0, 0.0, -1.0, -60.0).requires_grad_()
    beta = concentrations(logits)
    torch.testing.assert_close(beta.detach(), vector(3, 1, math.exp(-1), math.exp(-60)))
    torch.testing.assert_close(beta.detach()[:3], nn.functional.elu(logits.detach()[:3]) + 1)
    (slope,) = torch.autograd.grad(beta.sum(), logits)
    torch.testing.assert_close(slope, vector(1, 1, math.exp(-1), math.exp(-60)))


def slopes(logits: Tensor, sample: Tensor) -> Tensor:
    """Return d sample / d logits, a row for every entry of the sample."""
    given = logits.clone().requires_grad_()
    out = DirichletSum().probabilities(given, sample)
    assert torch.equal(out.detach(), sample)
    rows = [torch.autograd.grad(entry, given, retain_graph=True)[0] for entry in out.unbind()]
    return torch.stack(rows)


def test_the_pathwise_gradient_by_hand() -> None:
    """Concentrations (2, 0.3, 0.7): the first weight is Beta(2, 1), whose quantile of u is
    u^(1/2), so that its slope is -x ln(x) / 2; the others give way in proportion.

    Concentrations (1, 3): Beta(1, 3) has quantiles 1 - (1 - u)^(1/3), so that where the second
    concentration grows, the first weight falls by -(1 - x) ln(1 - x) / 3. PyTorch's numbers have
    an error of at most a thousandth.
    """
    logits, sample = vector(1.0, math.log(0.3), math.log(0.7)), vector(0.4, 0.5, 0.1)
    first = -0.4 * math.log(0.4) / 2
    found = slopes(logits, sample)
    expected = vector(first, -first * 0.5 / 0.6, -first * 0.1 / 0.6)
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.sum(0), torch.zeros(3).double(), rtol=0, atol=1e-12)
    found = slopes(vector(0.0, 2.0), vector(0.4, 0.6))
    second = 0.6 * math.log(0.6) / 3
    torch.testing.assert_close(found[:, 1], vector(second, -second), rtol=1e-3, atol=0)


def test_samples_have_the_moments_and_gradients_of_the_distribution() -> None:
    """Means b / s, variances m (1 - m) / (s + 1), d mean_i / d a_j = (d_ij - m_i) b'_j / s.

    Of 4000 samples; every bound lies 5 standard errors off, so that all 15 hold but with
    probability below 1e-5.
    """
    logits = vector(0.5, -1.0, 2.0)
    beta = concentrations(logits)
    rng, op, count = np.random.default_rng(0), DirichletSum(), 4000
    samples = [op.draw(logits.numpy(), rng) for _ in range(count)]
    drawn, total = torch.stack(samples), float(beta.sum())
    mean = beta / total
    variance = mean * (1 - mean) / (total + 1)
    assert ((drawn.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all()
    squares = (drawn - mean).square()
    assert ((squares.mean(0) - variance).abs() < 5 * squares.std(0) / count**0.5).all()
    gradients = torch.stack([slopes(logits, sample) for sample in samples])
    expected = (torch.eye(3).double() - mean[:, None]) * vector(1.0, math.exp(-1), 1.0) / total
    error = 5 * gradients.std(0) / count**0.5
    assert ((gradients.mean(0) - expected).abs() < error + 1e-3 * expected.abs()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", [(-80.0, -90.0, 60.0, 3.0), (-8.0, -9.0, -7.0, -8.0)])
def test_extreme_logits_give_finite_samples_and_gradients(
    values: tuple[float, ...], dtype: torch.dtype
) -> None:
    op = DirichletSum()
    for seed in range(20):
        sample = op.draw(np.array(values), np.random.default_rng(seed))
        assert float(sample.sum()) == pytest.approx(1.0)
        logits = torch.tensor(values, dtype=dtype, requires_grad=True)
        loss = op.probabilities(logits, sample) @ torch.arange(4, dtype=dtype)
        (slope,) = torch.autograd.grad(loss, logits)
        assert slope.isfinite().all()


def test_the_distance_to_the_anchor() -> None:
    """Zero at the anchor; for concentrations (2, 1), ln G(3) + psi(2) - psi(3) = ln 2 - 1/2."""
    assert float(divergence(vector(0.0, 0.0, 0.0))) == pytest.approx(0.0, abs=1e-14)
    assert float(divergence(vector(1.0, 0.0))) == pytest.approx(math.log(2) - 0.5)
    logits = vector(0.4, -1.0, 2.0)
    library = kl_divergence(Dirichlet(concentrations(logits)), Dirichlet(torch.ones(3).double()))
    torch.testing.assert_close(divergence(logits), library)


def chain() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        LayerChoice([nn.Linear(6, 6), nn.Tanh(), nn.Identity(), nn.ReLU()], f"c{k}")
        for k in range(2)
    ]
    return nn.Sequential(*layers, nn.Linear(6, 3)).double()


def numbers() -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 6, generator=rng, dtype=torch.float64), torch.arange(80) % 3
    return TensorData((TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:])))


def attached(
    algo: DrNAS, net: nn.Module | None = None, epochs: int = 6, **settings: Any
) -> SupernetTraining:
    chosen = {"batch_size": 8, "label_smoothing": 0.0, **settings}
    return SupernetTraining(net or chain(), algo, numbers(), TrainSettings(epochs=epochs, **chosen))


def test_the_distance_is_decay_or_stands_in_the_loss() -> None:
    """With a gradient of zero, decay moves logits towards 0, and so does the divergence."""
    cases: list[tuple[Anchor, float]] = [("l2", 0.5), ("kl", 0.25)]
    for anchor, scale in cases:
        algo = DrNAS(anchor=anchor, alpha_weight_decay=scale)
        attached(algo)
        for value in algo.relaxation.vectors.values():
            value.data = vector(0.5, -0.5, 0.0, 1.0)
        nothing = torch.zeros(()).double()
        decay = algo.optimizer.param_groups[0]["weight_decay"]
        expected = 2 * 0.25 * divergence(vector(0.5, -0.5, 0.0, 1.0)) if anchor == "kl" else nothing
        torch.testing.assert_close(algo.penalised(nothing).detach(), expected)
        assert decay == (0.5 if anchor == "l2" else 0.0)


def test_both_passes_have_samples_of_their_own_and_logits_learn_from_one() -> None:
    algo, seen = DrNAS(warmup_epochs=0), list[float]()
    run = attached(algo)
    run.model.register_forward_hook(
        lambda *_: seen.append(float(algo.relaxation.mixers["c0"].draw[0]))
    )
    before = algo.relaxation.vectors["c0"].detach().clone()
    run.run_epoch()
    assert len(set(seen)) == len(seen) == 10  # five steps of logits, five of weights
    assert (algo.relaxation.vectors["c0"] != before).all()


class Counted(nn.Module):
    """Counts its passes, and scales its input by a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.weight = 0, nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.weight


def test_the_weakest_candidates_are_left_out_between_stages() -> None:
    """Five candidates, three in the second of three stages, one in the third, of 2 epochs each."""
    layers = [Counted() for _ in range(5)]
    net = nn.Sequential(LayerChoice(layers, "c"), nn.Linear(6, 3)).double()
    algo = DrNAS(keep=(3, 1), warmup_epochs=1, alpha_lr=1e-6)
    run, learned, ran = attached(algo, net), [], []
    algo.relaxation.vectors["c"].data = vector(0.5, 0.1, 0.9, 0.3, 0.7)
    for _ in range(6):
        before = [layer.calls for layer in layers], algo.relaxation.vectors["c"].detach().clone()
        for batch in run._training_batches(8):
            algo.step(batch, run._valid_batches())
        ran.append([k for k, layer in enumerate(layers) if layer.calls > before[0][k]])
        learned.append(not torch.equal(algo.relaxation.vectors["c"], before[1]))
        algo.epoch_end()
        run.epoch += 1
    assert ran == 2 * [[0, 1, 2, 3, 4]] + 2 * [[0, 2, 4]] + 2 * [[2]]
    assert learned == [False, True, False, True, False, True]  # the last by decay alone
    p = algo.relaxation.probabilities()["c"]
    assert p.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert algo.derive() == {"c": 2}
    assert algo.top_k(5) == [{"c": 2}]
    idle = [not layer.weight.any() for layer in layers]
    assert idle == [True, True, False, True, True]  # their memory is free


def test_what_is_left_is_mixed_as_if_alone() -> None:
    algo = DrNAS()
    attached(algo)
    relaxation = algo.relaxation
    relaxation.vectors["c0"].data = vector(1.0, 2.0, -1.0, 0.0)
    relaxation.prune("c0", [3, 1])
    e = math.exp(2.0)
    np.testing.assert_allclose(relaxation.probabilities()["c0"], [0, e / (1 + e), 0, 1 / (1 + e)])
    relaxation.sample(4, 1)
    drawn = relaxation.mixers["c0"].draw
    rng = np.random.default_rng([0, 4, 1])
    assert torch.equal(drawn, DirichletSum().draw(np.array([2.0, 0.0]), rng))
    expected = vector(0.0, float(drawn[0]), 0.0, float(drawn[1]))
    assert torch.equal(relaxation.weights()["c0"].detach(), expected)


class Nothing(nn.Module):
    is_none = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_an_edge_of_a_cell_keeps_a_real_operation() -> None:
    torch.manual_seed(0)
    cell = Cell({"none": Nothing(), "linear": nn.Linear(6, 6), "same": nn.Identity()}, 2, 1, 1)
    net = nn.Sequential(cell, nn.Linear(12, 3)).double()
    algo = DrNAS(keep=(1,), warmup_epochs=0)
    run = attached(algo, net, epochs=2)
    for value in algo.relaxation.vectors.values():
        value.data = vector(3.0, 0.0, 1.0)
    run.run_epoch()
    assert {kept for kept in algo.relaxation.kept.values()} == {(2,)}
    arch = algo.derive()
    space_of(net).check(arch)
    assert {v for k, v in arch.items() if "/op/" in k} == {"same"}


def test_partial_channels_are_resumed_and_frozen() -> None:
    space = ModelSpace(chain, input_shape=(6,))
    states, nets, algos = [], [], []
    for stop in (None, 2):
        algo = DrNAS(partial=2, keep=(2,), warmup_epochs=0, alpha_lr=0.1)
        net = algo.supernet_space(space).supernet(0)
        run = attached(algo, net, epochs=4)
        for epoch in range(4):
            if epoch == stop:
                state, weights = run.state_dict(), net.state_dict()
                algo = DrNAS(partial=2, keep=(2,), warmup_epochs=0, alpha_lr=0.1)
                net = algo.supernet_space(space).supernet(1)
                run = attached(algo, net, epochs=4)
                net.load_state_dict(weights)
                run.load_state_dict(state)
            run.run_epoch()
        states.append(algo.relaxation.state_dict()["logits"])
        nets.append(net)
        algos.append(algo)
    for label, logits in states[0].items():
        assert torch.equal(logits, states[1][label])
    arch, x = algos[1].derive(), torch.randn(5, 6, dtype=torch.float64)
    activate(nets[1].eval(), arch)
    assert torch.equal(freeze(nets[1], arch)(x), nets[1](x))
    assert nets[1].state_dict()["0.candidates.0.weight"].shape == (3, 3)
    assert len(algos[0].relaxation.kept["c0"]) == 2


def test_settings_out_of_range_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"anchor": "l1"}, "anchor is one of l2, kl, got 'l1'"),
        ({"partial": 0}, "partial must be a whole number of at least 1, got 0"),
        ({"keep": (2, 4)}, "fall from stage to stage"),
        ({"keep": (0,)}, "fall from stage to stage"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            DrNAS(**options)
    algo = DrNAS(keep=(4,))
    algo.check_settings(TrainSettings(epochs=22))
    with pytest.raises(ValueError, match="each of 2 stages begins with 10 epochs of weights"):
        algo.check_settings(TrainSettings(epochs=21))
