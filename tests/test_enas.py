"""ENAS: the controller's probabilities, what moves it, its rewards, and what is derived."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raynas.algorithms.enas import ENAS, ranked
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidSpace
from raynas.core.train_settings import TrainSettings
from raynas.gradient.controller import Controller, Path, _Walk
from raynas.nn import InputChoice, LayerChoice, space_of
from raynas.setup.algorithms import resolve_one_shot
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.training import SupernetTraining
from tests.test_one_shot_contract import numbers, same, small

TWO = ArchSpace((Choice("a.b", ("x", "y")), Choice("c", (1, 2, 3))))
NESTED = ArchSpace(
    (
        Choice("op", ("deep", "flat"), {"deep": ArchSpace((Choice("inner", (1, 2, 3)),))}),
        Subset("skip", ("s", "t"), None),
    )
)


def filled(controller: Controller, weights: Mapping[str, Any]) -> Controller:
    """Give a controller of one hidden unit weights, all others zero."""
    with torch.no_grad():
        for name, parameter in controller.named_parameters():
            parameter.copy_(torch.tensor(weights.get(name, 0.0), dtype=parameter.dtype))
    return controller


def by_hand() -> Controller:
    """The cell's candidate gate reads the input, and nothing else is connected."""
    weights = {
        "start": [1.0],
        "cells.0.weight_ih": [[0.0], [0.0], [1.0], [0.0]],
        "heads.0": [[2.0], [-1.0]],
        "heads.1": [[1.0], [0.0], [-3.0]],
        "embeddings.0": [[0.5], [-2.0]],
    }
    return filled(Controller(TWO, seed=0, hidden=1), weights)


def after(cell: float, given: float) -> tuple[float, float]:
    """Return cell and output of the LSTM, whose three gates are all sigmoid(0) = 1/2."""
    cell = 0.5 * cell + 0.5 * math.tanh(given)
    return cell, 0.5 * math.tanh(cell)


def softmax(values: Sequence[float]) -> list[float]:
    exps = [math.exp(value) for value in values]
    return [value / sum(exps) for value in exps]


def test_probabilities_are_those_of_an_lstm_by_hand() -> None:
    with torch.no_grad():
        path = by_hand().follow(Arch({"a.b": "y", "c": 3}))
    cell, first = after(0.0, 1.0)
    p = softmax([2 * first, -first])
    _, second = after(cell, -2.0)
    q = softmax([second, 0.0, -3 * second])
    assert float(path.log_p) == pytest.approx(math.log(p[1] * q[2]), abs=1e-14)
    entropy = -sum(value * math.log(value) for value in (*p, *q))
    assert float(path.entropy) == pytest.approx(entropy, abs=1e-14)
    assert path.p["a.b"].tolist() == pytest.approx(p, abs=1e-14)
    assert path.p["c"].tolist() == pytest.approx(q, abs=1e-14)


def test_the_gradient_of_two_decisions_by_hand() -> None:
    """The head's is -advantage * (1[option] - p) * output, a mean over the samples."""
    algo = ENAS(baseline_decay=0.8, entropy_weight=0.0)
    algo.controller, algo.baseline = by_hand(), 0.25
    algo.optimizer = torch.optim.SGD(algo.controller.parameters(), 0.0)
    archs = [Arch({"a.b": "y", "c": 3}), Arch({"a.b": "x", "c": 1})]
    algo.reinforce([algo.controller.follow(arch) for arch in archs], [1.25, 0.0])
    # baselines 0.25 + 0.2 * 1 = 0.45, then 0.45 - 0.2 * 0.45 = 0.36, each before its advantage
    assert algo.baseline == pytest.approx(0.36, abs=1e-15)
    cell, first = after(0.0, 1.0)
    p = softmax([2 * first, -first])
    expected_a, expected_c = np.zeros(2), np.zeros(3)
    for picked, embedding, advantage in (((1, 2), -2.0, 0.8), ((0, 0), 0.5, -0.36)):
        second = after(cell, embedding)[1]
        q = softmax([second, 0.0, -3 * second])
        expected_a -= advantage / 2 * (np.eye(2)[picked[0]] - p) * first
        expected_c -= advantage / 2 * (np.eye(3)[picked[1]] - q) * second
    gradients = [algo.controller.heads[number].grad for number in "01"]
    for gradient, expected in zip(gradients, (expected_a, expected_c), strict=True):
        np.testing.assert_allclose(gradient[:, 0].numpy(), expected, rtol=0, atol=1e-14)


def test_the_baseline_follows_every_reward_with_its_entropy() -> None:
    algo = ENAS(baseline_decay=0.9, entropy_weight=0.5)
    path = Path(entropy=torch.tensor(0.4, dtype=torch.float64))
    values, baseline = [0.3, 0.9, -0.2], 0.5  # starts at the first reward, 0.3 + 0.5 * 0.4
    path.log_p = torch.tensor(-2.0, dtype=torch.float64)
    for reward in values:
        value = reward + 0.2
        baseline += 0.1 * (value - baseline)
        loss = algo.sample_loss(path, reward)
        assert algo.baseline == pytest.approx(baseline, abs=1e-15)
        assert float(loss) == pytest.approx(2.0 * (value - baseline), abs=1e-15)
    assert algo.baseline != 0.5


def test_a_reward_that_is_no_number_moves_nothing() -> None:
    algo = ENAS()
    algo.controller = by_hand()
    algo.optimizer = torch.optim.Adam(algo.controller.parameters())
    before = {k: v.clone() for k, v in algo.controller.state_dict().items()}
    algo.reinforce([algo.controller.likeliest()], [math.nan])
    assert algo.baseline is None
    assert same(dict(algo.controller.state_dict()), before)


def test_bits_their_penalty_and_their_embedding_by_hand() -> None:
    space = ArchSpace((Subset("skip", (0, 1, 2), None), Choice("c", ("x", "y"))))
    weights = {
        "start": [1.0],
        "cells.0.weight_ih": [[0.0], [0.0], [1.0], [0.0]],
        "heads.0": [[2.0], [-1.0], [0.5]],
        "heads.1": [[1.0], [0.0]],
        "embeddings.0": [[0.5], [-2.0], [4.0]],
    }
    controller = filled(Controller(space, seed=0, hidden=1, skip_target=0.4), weights)
    with torch.no_grad():
        path = controller.follow(Arch({"skip": (0, 2), "c": "x"}))
    cell, first = after(0.0, 1.0)
    p = [1 / (1 + math.exp(-2 * head * first)) for head in (2.0, -1.0, 0.5)]
    _, second = after(cell, (0.5 + 4.0) / (1 + 2))
    q = softmax([second, 0.0])
    log_p = math.log(p[0] * (1 - p[1]) * p[2] * q[0])
    assert float(path.log_p) == pytest.approx(log_p, abs=1e-14)
    kl = sum(v * math.log(v / 0.4) + (1 - v) * math.log((1 - v) / 0.6) for v in p)
    assert float(path.penalty) == pytest.approx(kl, abs=1e-14)
    algo = ENAS(skip_weight=0.8, baseline_decay=0.0)  # no advantage is left
    assert float(algo.sample_loss(path, 1.0).detach()) == pytest.approx(0.8 * kl, abs=1e-14)
    even = filled(Controller(space, seed=0, hidden=1, skip_target=0.5), {})
    assert even.likeliest().penalty == 0.0


def test_the_penalty_of_several_sets_is_their_mean() -> None:
    space = ArchSpace((Subset("a", (0,), None), Subset("b", (0, 1, 2), None)))
    with torch.no_grad():
        path = filled(Controller(space, seed=0, hidden=1, skip_target=0.2), {}).likeliest()
    kl = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    assert float(path.penalty) == pytest.approx((kl + 3 * kl) / 2, abs=1e-15)
    assert float(Controller(TWO, seed=0).likeliest().penalty) == 0.0


def test_logits_are_bounded_and_divided() -> None:
    state = torch.tensor([0.7], dtype=torch.float64)
    controller = filled(
        Controller(TWO, seed=0, hidden=1, tanh_constant=1.5, temperature=5.0),
        {"heads.0": [[20.0], [-1.0]]},
    )
    expected = [1.5 * math.tanh(20 * 0.7 / 5), 1.5 * math.tanh(-0.7 / 5)]
    assert controller.logits("a.b", state).tolist() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("space", [TWO, NESTED])
def test_the_probabilities_of_all_architectures_sum_to_one(space: ArchSpace) -> None:
    controller = Controller(space, seed=3, hidden=4, layers=2)
    with torch.no_grad():
        for weight in controller.parameters():
            weight.mul_(60.0)  # far from uniform
        p = [controller.follow(arch).log_p.exp() for arch in space]
    assert float(torch.stack(p).sum()) == pytest.approx(1.0, abs=1e-13)
    assert max(p) > 2 * min(p)


class InOrder:
    """Picks given positions, one after the other."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = order

    def pick(self, decision: Decision, p: NDArray[np.float64], taken: Sequence[int]) -> int:
        assert all(p[at] == 0 for at in taken)
        return self._order[len(taken)]

    def bits(self, decision: Decision, p: NDArray[np.float64]) -> NDArray[np.bool_]:
        raise AssertionError("a set of k has no coins")


def test_picks_without_replacement_sum_to_one_and_stand_in_order() -> None:
    space = ArchSpace((Subset("from", ("a", "b", "c", "d"), 2),))
    controller = Controller(space, seed=1, hidden=4)
    with torch.no_grad():
        for weight in controller.parameters():
            weight.mul_(20.0)
        paths = {
            o: _Walk(controller, InOrder(o)).path() for o in itertools.permutations(range(4), 2)
        }
        total = sum(float(path.log_p.exp()) for path in paths.values())
        assert total == pytest.approx(1.0, abs=1e-13)
        assert paths[3, 1].arch == paths[1, 3].arch == {"from": ("b", "d")}
        assert float(controller.follow(paths[3, 1].arch).log_p) == float(paths[1, 3].log_p)
        for path in paths.values():  # the first pick's, whatever it was
            assert path.p["from"].sum() == pytest.approx(1.0)


def test_entropies_of_a_uniform_controller() -> None:
    space = ArchSpace(
        (Choice("c", (1, 2, 3)), Subset("any", (1, 2), None), Subset("two", (1, 2, 3), 2))
    )
    with torch.no_grad():
        path = filled(Controller(space, seed=0, hidden=1), {}).likeliest()
    expected = math.log(3) + 2 * math.log(2) + math.log(3) + math.log(2)
    assert float(path.entropy) == pytest.approx(expected, abs=1e-14)
    assert path.arch == {"c": 1, "any": (), "two": (1, 2)}


def test_draws_have_the_frequencies_of_their_probabilities() -> None:
    """2,000 draws of 8 architectures: five standard deviations each, so less than 1e-5 in all."""
    controller = by_hand()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        archs = [controller.sample(rng).arch for _ in range(2000)]
        for arch in TWO:
            p = float(controller.follow(arch).log_p.exp())
            spread = 5 * math.sqrt(p * (1 - p) / 2000)
            assert archs.count(arch) / 2000 == pytest.approx(p, abs=spread)


def bandit(seed: int) -> bool:
    """Return whether a controller finds the rewarded options of three decisions."""
    space = ArchSpace.of(a=["x", "y", "z"], b=[1, 2, 3], c=[True, False])
    right = {"a": "y", "b": 3, "c": False}
    algo, rng = ENAS(), np.random.default_rng([seed, 0, 1])
    algo.controller = Controller(space, seed=seed, hidden=16, tanh_constant=1.1)
    algo.optimizer = torch.optim.Adam(
        algo.controller.parameters(), algo.controller_lr, algo.controller_betas
    )
    for _ in range(60):
        paths = [algo.controller.sample(rng) for _ in range(5)]
        algo.reinforce(paths, [sum(p.arch[k] == v for k, v in right.items()) / 3 for p in paths])
    return algo.controller.likeliest().arch == right


def test_the_rewarded_choices_are_found() -> None:
    """On at least two of three seeds, each by chance with 1/18.

    Of 40 other seeds all did: were each missed with 7 % (the bound at a confidence of 95 %), two
    of three would be with 1.5 %.
    """
    assert sum(bandit(seed) for seed in range(3)) >= 2


class Switched(nn.Module):
    """One of two layers, added to any of two inputs; notes what it does in training mode."""

    def __init__(self) -> None:
        super().__init__()
        layers = {"good": nn.Linear(6, 3), "bad": Constant()}
        self.op, self.skip = LayerChoice(layers, label="op"), InputChoice(2, label="skip")
        self.norm = nn.BatchNorm1d(3)
        self.calls: list[tuple[bool, Any, Any]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((torch.is_grad_enabled(), self.op.route, self.skip.route))
        out: Tensor = self.norm(self.op(x) + 0.1 * self.skip([x[:, :3], x[:, 3:]]))
        return out


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 3)


def switched(**options: Any) -> tuple[ENAS, SupernetTraining]:
    torch.manual_seed(0)
    chosen = {"controller_steps": 2, "samples": 3, "candidates": 4, "hidden": 8, **options}
    algo = ENAS(**chosen)
    settings = TrainSettings(epochs=3, batch_size=12, lr=0.1, label_smoothing=0.0)
    return algo, SupernetTraining(Switched().double(), algo, numbers(), settings, seed=3)


def test_an_epoch_trains_subnets_then_the_controller() -> None:
    algo, run = switched()
    net: Any = run.model
    before = {k: v.clone() for k, v in algo.controller.state_dict().items()}
    row = run.run_epoch()
    passes = net.calls[: 4 + 2 * 3 + 4]  # 48 examples in batches of 12; the rest is a validation
    assert [grad for grad, *_ in passes] == [True] * 4 + [False] * 10
    assert not same(dict(algo.controller.state_dict()), before)
    assert int(net.norm.num_batches_tracked) == 4  # rewards leave no statistics
    assert set(row) >= {"reward", "baseline", "entropy", "alpha.op.good", "alpha.skip.0"}
    rewarded = [call[1:] for call in net.calls[4:10]]
    assert len(set(rewarded)) > 1  # else 6 draws of 8 architectures have agreed: 8**-5


def test_one_subnet_makes_one_reward_in_training_mode() -> None:
    algo, run = switched()
    batch = numbers().load().valid
    pairs = [(op, skip) for op in ("bad", "good") for skip in ((), (0, 1))]
    rewards = algo._rewards([(Arch({"op": op, "skip": skip}), batch) for op, skip in pairs])
    net: Any = run.model
    for (picked, skip), reward in zip(pairs, rewards, strict=True):
        with torch.no_grad():
            op = net.op.candidates[picked](batch[0])
            parts = [batch[0][:, 3 * at : 3 * at + 3] for at in skip]
            out = nn.functional.batch_norm(op + 0.1 * sum(parts), None, None, training=True)
        assert reward == pytest.approx(float((out.argmax(1) == batch[1]).double().mean()))
    assert len(set(rewards)) > 1


def test_children_are_drawn_by_seed_and_step_alone() -> None:
    archs = []
    for _ in range(2):
        _, run = switched()
        run.run_epoch()
        assert isinstance(run.model, Switched)
        archs.append([call[1:] for call in run.model.calls])
    assert archs[0] == archs[1]
    assert len(set(archs[0])) > 1  # else 4 children of 8 architectures have agreed: 8**-3


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (None, "accuracy"),
        ("accuracy:max", "accuracy"),
        ("loss", "loss"),
        (lambda outputs, targets: 7 - (outputs.argmax(1) == targets).double().sum(), "own"),
        ("tests.test_enas:errors", "own"),
    ],
)
def test_a_reward_may_go_by_any_metric(reward: Any, expected: str) -> None:
    algo, run = switched(reward=reward)
    batch = numbers().load().valid
    (value,) = algo._rewards([(Arch({"op": "good", "skip": ()}), batch)])
    with torch.no_grad():
        out = run.model.train()(batch[0])
    right, loss = (out.argmax(1) == batch[1]).double(), nn.functional.cross_entropy(out, batch[1])
    worth = {
        "accuracy": float(right.mean()),
        "loss": 1 / (1 + float(loss)),
        "own": 7 - float(right.sum()),
    }
    assert value == pytest.approx(worth[expected])


def errors(outputs: Tensor, targets: Tensor) -> float:
    return 7 - float((outputs.argmax(1) == targets).sum())


def shaped(outputs: Tensor, _: Tensor) -> Tensor:
    return outputs


def test_a_reward_that_is_not_there_is_said_before_training() -> None:
    with pytest.raises(ValueError, match=r"no metric 'acuracy'.*'accuracy'"):
        switched(reward="acuracy")
    with pytest.raises(ValueError, match=r"'tests\.test_enas:nothing' is no function that can be"):
        ENAS(reward="tests.test_enas:nothing")
    algo, _ = switched(reward=shaped)
    with pytest.raises(ValueError, match=r"must return one number, got shape \(30, 3\)"):
        algo._rewards([(Arch({"op": "good", "skip": ()}), numbers().load().valid)])


def test_a_run_folder_names_the_function_of_a_reward() -> None:
    own: Any = errors
    spec, _ = resolve_one_shot(ENAS(reward=own), {}, 1)
    assert spec.options["reward"] == "tests.test_enas:errors"
    with pytest.raises(ValueError, match="option 'reward': input should be a valid string"):
        resolve_one_shot("enas", {"reward": errors}, 1)


def test_the_best_candidate_is_derived_and_the_others_follow() -> None:
    algo, run = switched()
    first = algo.controller.likeliest().arch
    assert algo.derive() == first == algo.top_k(1)[0]
    run.run_epoch()
    scores = [reward for reward, _ in algo._ranked]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 4
    archs = [Arch(arch) for arch in algo.top_k(99)]
    assert archs[:4] == [arch for _, arch in algo._ranked]
    assert len(set(archs)) == len(archs) == 8 == space_of(run.model).size()
    assert archs == [Arch(arch) for arch in algo.top_k(99)]
    assert algo.top_k(2) == [dict(arch) for arch in archs[:2]]
    assert algo.derive() == archs[0]
    p = algo.controller.follow(archs[0]).p
    for label, pairs in algo.distribution().items():
        assert [value for _, value in pairs] == p[label].tolist()
    assert dict(algo.distribution())["skip"][1][0] == 1


def test_candidates_are_ranked_by_reward_then_by_probability() -> None:
    def path(name: str, log_p: float) -> Path:
        return Path(Arch({"a": name}), torch.tensor(log_p, dtype=torch.float64))

    paths = [path("v", -1.0), path("w", -3.0), path("x", -2.0), path("y", -0.1), path("z", -2.0)]
    order = ranked(paths, [0.5, 0.7, 0.7 + 1e-13, math.nan, 0.7])
    assert [arch["a"] for _, arch in order] == ["x", "z", "w", "v", "y"]


def test_only_reached_decisions_have_probabilities() -> None:
    torch.manual_seed(0)
    algo = ENAS(hidden=8, controller_steps=1, samples=2, candidates=2)
    settings = TrainSettings(epochs=2, batch_size=12, label_smoothing=0.0)
    run = SupernetTraining(small(), algo, numbers(), settings, seed=3)
    run.run_epoch()
    assert set(algo.distribution()) == set(algo.derive())


def test_the_learning_rate_restarts() -> None:
    """At 10, 30 and 70 of 150 epochs, and falls to a hundredth each time."""
    scale = ENAS().lr_scale
    for start, end in ((0, 100), (100, 300), (300, 700), (700, 1500)):
        assert scale(start, 1500) == pytest.approx(1.0)
        assert scale((start + end) // 2, 1500) == pytest.approx(0.505)
        assert scale(end - 1, 1500) < 0.011
    assert scale(1500, 1500) == 0.01


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"controller_lr": 0.0}, "controller_lr must be positive, got 0.0"),
        ({"temperature": -1.0}, "temperature must be positive, got -1.0"),
        ({"entropy_weight": -0.1}, "entropy_weight must not be negative, got -0.1"),
        ({"baseline_decay": 1.0}, "expected 0 <= baseline_decay < 1, got 1.0"),
        ({"skip_target": 1.0}, "expected 0 < skip_target < 1, got 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ENAS(**options)


def test_a_model_without_choices_is_refused() -> None:
    with pytest.raises(InvalidSpace, match="the model has no choices"):
        ENAS().check(nn.Linear(2, 2), torch.zeros(1, 2))


def test_names_of_nni_lead_here() -> None:
    assert ONE_SHOTS["EnasTrainer"] is ONE_SHOTS["ENAS"] is ENAS


def test_a_controller_takes_nothing_from_the_global_generators() -> None:
    state = torch.get_rng_state()
    first, again, other = (Controller(NESTED, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(dict(first), dict(again))
    assert not same(dict(first), dict(other))
