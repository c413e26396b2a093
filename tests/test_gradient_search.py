"""Gradient algorithms besides mixing: schedules, rewards, costs in the loss, bad numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.darts import DARTS
from raynas.algorithms.direct_grad import DirectGrad
from raynas.algorithms.fbnet import FBNet
from raynas.algorithms.gdas import GDAS
from raynas.algorithms.proxyless import Init, Proxyless
from raynas.algorithms.proxyless_rl import ProxylessRL
from raynas.algorithms.snas import SNAS
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.gradient.base import Differentiable
from raynas.gradient.hardware import Hardware, Penalty
from raynas.nn import LayerChoice
from raynas.nn.labels import name_labels
from raynas.supernet.protocol import Batch
from raynas.supernet.training import SupernetTraining


def chain() -> nn.Module:
    """Two choices of three and of four candidates, all of which normalise by the batch."""
    torch.manual_seed(0)

    def layer() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))

    layers = [LayerChoice([layer() for _ in range(n)], f"of {n}") for n in (3, 4)]
    return nn.Sequential(*layers, nn.Linear(6, 3)).double()


def numbers(count: int = 40, bad: int | None = None, held: int = 40) -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count + held, 6, generator=rng, dtype=torch.float64)
    if bad is not None:
        x[bad] = math.nan
    y = torch.arange(count + held) % 3
    return TensorData((TensorDataset(x[:count], y[:count]), TensorDataset(x[count:], y[count:])))


def attached(
    algo: Any, net: nn.Module | None = None, data: TensorData | None = None, **settings: Any
) -> SupernetTraining:
    chosen = {"epochs": 5, "batch_size": 8, "label_smoothing": 0.0, **settings}
    return SupernetTraining(net or chain(), algo, data or numbers(), TrainSettings(**chosen))


def watched(
    algo: Any, what: Callable[[], float], epochs: int = 5, **settings: Any
) -> list[list[float]]:
    """Return by epoch what held in every pass of the training."""
    run = attached(algo, epochs=epochs, **settings)
    seen: list[list[float]] = []
    run.model.register_forward_hook(lambda *_: seen[-1].append(what()))
    for _ in range(epochs):
        seen.append([])
        run.run_epoch()
    return seen


def test_the_temperature_of_snas_falls_linearly_over_steps() -> None:
    algo = SNAS(temperature=1.0, final_temperature=0.2)
    seen = watched(algo, lambda: algo.op.temperature, epochs=2)
    assert seen[0] + seen[1] == pytest.approx([1 - 0.8 * step / 9 for step in range(10)])
    kept = SNAS(temperature=0.7, final_temperature=None)
    assert {t for row in watched(kept, lambda: kept.op.temperature) for t in row} == {0.7}


def test_the_temperature_of_gdas_falls_linearly_over_epochs() -> None:
    algo = GDAS()
    seen = watched(algo, lambda: algo.op.temperature)
    assert [row[0] for row in seen] == pytest.approx([10.0, 7.525, 5.05, 2.575, 0.1])
    assert all(len(row) == 10 and len(set(row)) == 1 for row in seen)  # weights, then logits


def test_the_temperature_of_fbnet_falls_exponentially_over_epochs() -> None:
    algo = FBNet(warmup_epochs=2)
    seen = watched(algo, lambda: algo.op.temperature, epochs=4)
    for epoch, row in enumerate(seen):
        assert row == pytest.approx([5 * math.exp(-0.045 * epoch)] * len(row))
    # the validation split of five batches after an epoch of weights, from the third epoch on
    assert [len(row) for row in seen] == [5, 5, 10, 10]


@pytest.mark.parametrize(
    "algo", [SNAS(), GDAS(), FBNet(warmup_epochs=0), DirectGrad(mixed_op="gumbel_sum")]
)
def test_every_pass_has_noise_of_its_own(algo: Any) -> None:
    def noise() -> float:
        return float(algo.relaxation.mixers["of 3"].draw[0][0])

    seen = [value for row in watched(algo, noise, epochs=2) for value in row]
    assert len(seen) == len(set(seen)) >= 10


def test_fbnet_begins_with_equal_logits() -> None:
    algo = FBNet()
    attached(algo)
    assert all(not vector.any() for vector in algo.relaxation.vectors.values())


@pytest.mark.parametrize("batches", [1, 2, 5])
@pytest.mark.parametrize("steps", [1, 3])
def test_proxyless_updates_logits_after_every_few_weight_steps(batches: int, steps: int) -> None:
    algo = Proxyless(mode="full", alpha_every=batches, alpha_steps=steps, warmup_epochs=1)
    run = attached(algo)
    updates, passes = [], list[int]()
    algo.optimizer.register_step_post_hook(lambda *_: updates.append(run.step))
    run.model.register_forward_hook(lambda *_: passes.append(run.step))
    for _ in range(3):
        run.run_epoch()
    due = [step for step in range(5, 15) if (step + 1) % batches == 0]
    assert updates == sorted(due * steps)
    assert passes == sorted([*range(15), *updates])


def test_mode_two_keeps_the_other_probabilities() -> None:
    algo = Proxyless(mode="two", alpha_every=1, warmup_epochs=0, alpha_lr=0.3)
    run = attached(algo)
    rng = torch.Generator().manual_seed(0)
    for vector in algo.relaxation.vectors.values():
        vector.data = torch.randn(len(vector), generator=rng, dtype=torch.float64)
    batch = numbers().load().valid
    moved = set()
    for step in range(12):
        run.step = step
        before = algo.relaxation.probabilities()
        algo.step(batch, iter([batch]))
        after = algo.relaxation.probabilities()
        for label, mixer in algo.relaxation.mixers.items():
            pair = sorted(mixer.draw)
            rest = [k for k in range(len(before[label])) if k not in pair]
            np.testing.assert_allclose(after[label][rest], before[label][rest], atol=1e-15)
            assert after[label][pair].sum() == pytest.approx(before[label][pair].sum(), abs=1e-15)
            assert abs(after[label][pair] - before[label][pair]).min() > 1e-3
            moved.add((label, *pair))
    assert len(moved) > 4


def test_a_path_that_is_not_sampled_keeps_its_weights_and_statistics() -> None:
    algo = Proxyless(warmup_epochs=9)
    run = attached(algo, weight_decay=0.1)
    for step in range(8):
        run.step = step
        before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        algo.step(numbers().load().train, iter(()))
        active = {
            f"{at}.candidates.{algo.relaxation.mixers[label].draw}."
            for at, label in enumerate(algo.relaxation.mixers)
        }
        for name, tensor in run.model.state_dict().items():
            sampled = name.startswith(("2.", *active))
            assert torch.equal(tensor, before[name]) != sampled


def test_initial_logits_are_of_the_stated_distribution() -> None:
    net = nn.Sequential(LayerChoice([nn.Linear(6, 6) for _ in range(400)], "many"), nn.Linear(6, 3))
    found = {}
    inits: tuple[Init, ...] = ("normal", "uniform")
    for init in inits:
        algo = Proxyless(init=init, init_ratio=0.5)
        attached(algo, net)
        found[init] = algo.relaxation.vectors["many"].detach()
    # five standard errors of a standard deviation over 400 numbers
    assert found["normal"].std().item() == pytest.approx(0.5, rel=5 / math.sqrt(800))
    assert found["normal"].abs().max() > 0.5
    assert found["uniform"].abs().max() <= 0.5
    assert found["uniform"].std().item() == pytest.approx(0.5 / math.sqrt(3), rel=5 / 28)


class Chosen(nn.Module):
    """Classes as they are, or the wrong ones: accuracy 1 or 0 by one choice."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = LayerChoice({"wrong": Turned(1), "right": Turned(0), "off": Turned(2)})
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.choice(x) * self.scale
        return out


class Turned(nn.Module):
    """Gives the input's three numbers in another order."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(self.by, 1)


def one_hot(count: int = 12) -> Batch:
    y = torch.arange(count) % 3
    return nn.functional.one_hot(y, 3).float(), y


def rewarded(**options: Any) -> tuple[ProxylessRL, SupernetTraining]:
    algo = ProxylessRL(**{"samples": 40, "warmup_epochs": 0, "alpha_lr": 0.1, **options})
    data = TensorData((TensorDataset(*one_hot()),) * 2)
    return algo, attached(algo, Chosen(), data)


def test_a_better_path_becomes_more_likely() -> None:
    """All samples of one kind, which alone would stop it, have probability below 3 * (2/3)^40."""
    algo, _ = rewarded()
    before = algo.relaxation.probabilities()["choice"]
    mean = algo.reinforce(one_hot())
    after = algo.relaxation.probabilities()["choice"]
    assert 0.0 < mean < 1.0
    assert after[1] > before[1]
    assert after[0] < before[0]
    assert after[2] < before[2]


def test_the_gradient_of_a_reward_is_that_of_the_log_probability() -> None:
    algo, _ = rewarded()
    alpha = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    taken = [(0, 0.5), (2, -0.25), (0, 0.125)]
    loss = -sum(a * alpha.log_softmax(0)[k] for k, a in taken) / len(taken)
    assert isinstance(loss, Tensor)
    (expected,) = torch.autograd.grad(loss, alpha)
    torch.testing.assert_close(algo._gradient(alpha, taken), expected)


def test_the_baseline_follows_the_latest_mean_before_it_is_used() -> None:
    algo, run = rewarded(samples=10)
    means = []
    baseline = None
    for step in range(6):
        run.step = step
        means.append(algo.reinforce(one_hot()))
        baseline = means[0] if baseline is None else baseline + 0.99 * (means[-1] - baseline)
        assert algo.baseline == pytest.approx(baseline)
    assert len(set(means)) > 1  # else 6 * 10 draws of probability 1/3 have agreed


def test_rewards_run_in_training_mode_and_leave_no_statistics() -> None:
    algo = ProxylessRL(warmup_epochs=0, samples=4)
    run = attached(algo)
    run.model.train()
    seen = set()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.model.register_forward_hook(
        lambda net, *_: seen.add((net.training, torch.is_grad_enabled()))
    )
    algo.reinforce(numbers().load().valid)
    assert seen == {(True, False)}
    assert all(torch.equal(t, before[name]) for name, t in run.model.state_dict().items())


def test_a_reward_counts_accuracy_and_cost() -> None:
    net = nn.Sequential(
        LayerChoice([nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 3))], "choice")
    )
    hardware = {"target": "macs", "reference": 18.0}
    algo = ProxylessRL(warmup_epochs=0, hardware=hardware, reward_power=0.5)
    attached(algo, net, TensorData((TensorDataset(*one_hot()),) * 2))
    for at, macs in enumerate((9, 54)):
        algo.relaxation.mixers["choice"].draw = at
        x, y = one_hot()
        accuracy = (net[0].layers()[at](x).argmax(1) == y).double().mean().item()  # type: ignore[operator]
        reward = algo.reward((x, y), {"choice": at}).item()
        assert reward == pytest.approx(accuracy * math.sqrt(18 / macs))


def test_a_reward_takes_no_settings_of_a_loss() -> None:
    with pytest.raises(ValueError, match=r"hardware.weight has no part in a reward"):
        ProxylessRL(hardware={"target": "macs", "weight": 0.3})
    with pytest.raises(ValueError, match="at least 2 samples"):
        ProxylessRL(samples=1)


def two_prices() -> nn.Module:
    dear = nn.Sequential(nn.Linear(6, 9, bias=False), nn.Linear(9, 6, bias=False))
    choice = LayerChoice({"cheap": nn.Linear(6, 6, bias=False), "dear": dear}, "choice")
    net = nn.Sequential(choice, nn.Linear(6, 3, bias=False))
    name_labels(net)
    return net


def expected_macs(p: Tensor) -> Tensor:
    return 18 + 36 * p[0] + 108 * p[1]


@pytest.mark.parametrize("reference", [None, 50.0])
def test_the_additive_form(reference: float | None) -> None:
    hardware = Hardware(target="macs", reference=reference, weight=0.3)
    penalty = Penalty(hardware, two_prices(), torch.zeros(1, 6))
    penalty.aim(90.0)
    alpha = torch.tensor([0.2, -0.4], requires_grad=True)
    p = alpha.softmax(0)
    loss = penalty(torch.tensor(2.0), {"choice": p})
    expected = 2.0 + 0.3 * (expected_macs(p) / (reference or 90.0) - 1)
    assert loss.item() == pytest.approx(expected.item())
    found = torch.autograd.grad(loss, alpha, retain_graph=True)
    by_hand = torch.autograd.grad(expected, alpha)
    torch.testing.assert_close(found, by_hand)
    assert found[0][1] > 0  # descent makes the dear candidate less likely


@pytest.mark.parametrize("reference", [None, 50.0])
def test_the_multiplicative_form(reference: float | None) -> None:
    hardware = Hardware(target="macs", form="mul_log", reference=reference, weight=0.4, power=0.7)
    penalty = Penalty(hardware, two_prices(), torch.zeros(1, 6))
    penalty.aim(90.0)
    alpha = torch.tensor([0.2, -0.4], requires_grad=True)
    p = alpha.softmax(0)
    loss = penalty(torch.tensor(2.0), {"choice": p})
    base = 1.0 if reference is None else math.log(reference)
    expected = 0.4 * 2.0 * (expected_macs(p).log() / base) ** 0.7
    assert loss.item() == pytest.approx(expected.item())
    found = torch.autograd.grad(loss, alpha, retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected, alpha))


def test_a_table_of_latencies_takes_part(tmp_path: Path) -> None:
    file = tmp_path / "phone.csv"
    file.write_text("layer,candidate,latency_ms\n,,1.0\nchoice,cheap,0.5\nchoice,dear,4.0\n")
    hardware = Hardware(target="mobile", table=str(file))
    penalty = Penalty(hardware, two_prices(), torch.zeros(1, 6))
    assert penalty.metric == "latency_ms"
    p = torch.tensor([0.75, 0.25])
    assert penalty.expected({"choice": p}).item() == pytest.approx(1 + 0.375 + 1.0)


def test_latency_is_measured_on_request() -> None:
    algo = DARTS(hardware={"target": "cpu"})
    run = attached(algo, two_prices().double())
    row = run.run_epoch()
    assert row["expected_latency_ms"] > 0
    assert algo.penalty is not None
    p = torch.eye(2, dtype=torch.float64)
    assert algo.penalty.expected({"choice": p[0]}) > 0


def test_the_reference_of_the_start_is_remembered() -> None:
    """A latency that is measured anew after a stop is another one."""
    algo = DARTS(hardware={"target": "macs"})
    run = attached(algo, two_prices().double())
    assert algo.penalty is not None
    assert algo.penalty.reference == pytest.approx(90.0, rel=1e-2)  # of about equal logits
    state = run.state_dict()
    state["algo"]["reference"] = 70.0
    run.load_state_dict(state)
    assert algo.penalty.reference == 70.0


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ({"target": "mobile"}, "needs hardware.table"),
        ({"target": "macs", "table": "x.csv"}, "hardware.table is of latencies"),
        ({"form": "mul_log", "reference": 1.0}, "reference must be above 1 for mul_log, got 1.0"),
        ({"target": "tpu"}, "hardware.target"),
        ({"weigth": 1.0}, "'weight'"),
        ({"weight": -1.0}, "hardware.weight"),
    ],
)
def test_bad_hardware_is_refused(hardware: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attached(DARTS(hardware=hardware), two_prices().double())


def test_history_tells_probabilities_entropy_and_loss() -> None:
    algo = DARTS(alpha_lr=0.1)
    run = attached(algo)
    row = run.run_epoch()
    p = algo.relaxation.probabilities()
    for label, vector in p.items():
        told = [row[f"alpha.{label}.{k}"] for k in range(len(vector))]
        assert told == pytest.approx(vector.tolist())
    entropies = [-(v * np.log(v)).sum() for v in p.values()]
    assert row["entropy"] == pytest.approx(np.mean(entropies))
    assert {"loss", "valid_loss", "accuracy", "lr"} <= row.keys()


class Bursting(nn.Module):
    """Gives infinite numbers from some pass on."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.left = passes

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        return x / (self.left >= 0)


def fragile(passes: int) -> nn.Module:
    torch.manual_seed(0)
    inner = LayerChoice([nn.Linear(6, 6), Bursting(passes)], "inner")
    outer = LayerChoice([nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), inner)], "outer")
    return nn.Sequential(nn.Linear(6, 6), outer, nn.Linear(6, 3)).double()


@pytest.mark.parametrize(
    ("kind", "passes"), [(DARTS, 16), (DARTS, 17), (DirectGrad, 8), (SNAS, 12)]
)
def test_a_bad_number_is_told_with_its_label_and_the_checkpoint_stays(
    kind: Callable[[], Differentiable], passes: int
) -> None:
    algo: Any = kind()
    run = attached(algo, fragile(passes))
    states = []

    def go_on() -> None:
        for _ in range(5):
            states.append(copy.deepcopy((run.model.state_dict(), run.state_dict())))
            run.run_epoch()

    with pytest.raises(FloatingPointError) as caught:
        go_on()
    text = str(caught.value)
    assert run.step == passes // (2 if kind is DARTS else 1)
    assert f"in epoch {run.epoch}, batch {run.step - 5 * run.epoch};" in text
    assert "first bad output is that of '1.candidates.1.1.candidates.1' in choice 'inner'" in text
    assert all(weight.isfinite().all() for weight in run.model.parameters())
    assert all(vector.isfinite().all() for vector in algo.relaxation.vectors.values())
    weights, state = states[-1]
    again = attached(kind(), fragile(10**6))
    again.model.load_state_dict(weights)
    again.load_state_dict(state)
    assert math.isfinite(again.run_epoch()["loss"])


@pytest.mark.parametrize("bad", [3, 63])
def test_bad_inputs_of_either_split_are_told(bad: int) -> None:
    """The order of batches says which one holds the example."""
    run = attached(DARTS(), data=numbers(bad=bad))
    with pytest.raises(FloatingPointError, match="the batch's inputs hold what is no number"):
        run.run_epoch()
    stream, at = (0, bad) if bad < 40 else (1, bad - 40)
    order = np.random.default_rng([0, 0, stream]).permutation(40).tolist()
    assert run.step == order.index(at) // 8


def test_bad_weights_are_told() -> None:
    net = chain()
    with torch.no_grad():
        net[1].candidates["2"][0].weight[0, 0] = math.inf  # type: ignore[index]
    run = attached(DARTS(), net)
    with pytest.raises(
        FloatingPointError,
        match=r"batch 0; the first bad weight is '1.candidates.2.0.weight' in choice 'of 4'",
    ):
        run.run_epoch()


def test_bad_logits_are_told_at_the_epochs_end_at_last() -> None:
    algo = DARTS()
    attached(algo)
    with torch.no_grad():
        algo.relaxation.vectors["of 3"][0] = math.nan
    with pytest.raises(FloatingPointError, match="logits of 'of 3' are no numbers"):
        algo.epoch_end()


def test_a_validation_split_smaller_than_a_batch_will_do() -> None:
    algo = FBNet(warmup_epochs=0)
    run = attached(algo, data=numbers(held=3))
    assert run.valid_steps == 1
    assert run.run_epoch()["valid_loss"] > 0


def test_a_growing_batch_stops_at_the_size_of_the_data() -> None:
    from raynas.algorithms.sgas import SGAS

    algo = SGAS(first_decision=0, decide_every=1, batch_increase=30)
    run = attached(algo)
    rows = [run.run_epoch() for _ in range(3)]
    assert [row["step"] for row in rows] == [5, 6, 7]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="warmup_epochs must not be negative, got -1"):
        DARTS(warmup_epochs=-1)
    with pytest.raises(ValueError, match="init is one of normal, uniform, got 'flat'"):
        Proxyless(init="flat")  # type: ignore[arg-type]
    for make in (lambda: SNAS(temperature=0.0), lambda: GDAS(final_temperature=-1.0)):
        with pytest.raises(ValueError, match="temperatures must be positive"):
            make()
    with pytest.raises(ValueError, match="'index' gives the logits no gradient"):
        DirectGrad(mixed_op="index")
