"""Supernet training: stopping and going on, ranks, the paths of SPOS, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.spos import SPOS
from raynas.core.arch import Arch, Value
from raynas.core.train_settings import TrainSettings
from raynas.data.digits import Digits
from raynas.data.module import DataModule
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice, freeze, space_of
from raynas.nn.mutable import mutables
from raynas.supernet.checkpoint import load_state, load_weights, save_checkpoint
from raynas.supernet.protocol import Batch, Distribution, Metrics, OneShot, Training, cosine
from raynas.supernet.training import SupernetTraining
from tests.ranks import on_two_ranks


def conv(channels_in: int, channels_out: int, kernel: int) -> nn.Module:
    layer = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


def convnet(size: int = 8, width: int = 8) -> nn.Module:
    """Three choices, 3 * 2 * 3 = 18 architectures, with BatchNorm and dropout."""
    return nn.Sequential(
        LayerChoice([conv(1, width, k) for k in (1, 3, 5)]),
        LayerChoice([conv(width, width, k) for k in (1, 3)]),
        nn.MaxPool2d(2),
        LayerChoice([conv(width, 2 * width, k) for k in (1, 3, 5)]),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(2 * width * (size // 2) ** 2, 10),
    )


def mlp() -> nn.Module:
    """Two choices, no batch statistics, float64."""
    return nn.Sequential(
        LayerChoice([nn.Sequential(nn.Linear(6, h), nn.ReLU(), nn.Linear(h, 8)) for h in (4, 12)]),
        LayerChoice({"a": nn.Linear(8, 3), "b": nn.Sequential(nn.Tanh(), nn.Linear(8, 3))}),
    ).double()


class Jittered(TensorData):
    """Adds a little noise to training images."""

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=rng)


def images(count: int = 40, size: int = 4) -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count, 1, size, size, generator=rng)
    y = torch.randint(10, (count,), generator=rng)
    y[:10] = torch.arange(10)
    return Jittered((TensorDataset(x, y), TensorDataset(x[:20], y[:20])))


def numbers(count: int = 24) -> TensorData:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count, 6, generator=rng, dtype=torch.float64)
    return TensorData((TensorDataset(x, torch.arange(count) % 3),) * 2)


def training(
    net: nn.Module,
    algo: OneShot,
    data: DataModule | None = None,
    seed: int = 5,
    **settings: Any,
) -> SupernetTraining:
    chosen = TrainSettings(**{"epochs": 4, "batch_size": 8, **settings})
    return SupernetTraining(net, algo, data or images(), chosen, seed=seed)


def small(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return convnet(4, 4)


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def changed(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {k for k, tensor in net.state_dict().items() if not torch.equal(tensor, before[k])}


def active_names(net: nn.Module) -> set[str]:
    """Names of all tensors but those of candidates that are not active."""
    idle: set[str] = set()
    for path, module in net.named_modules():
        if isinstance(module, LayerChoice):
            for at, (name, layer) in enumerate(module.candidates.items()):
                if at != module.route:
                    idle |= {f"{path}.candidates.{name}.{key}" for key in layer.state_dict()}
    return set(net.state_dict()) - idle


def untimed(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "duration_s"}


@pytest.mark.parametrize("warm", [0, 3, 5, 12])
def test_going_on_equals_never_stopping(warm: int, tmp_path: Path) -> None:
    """Bit for bit, over two stops; 5 steps to an epoch, so that a warm start may end at a stop."""
    straight = training(small(), SPOS(seed=2, warm_start_steps=warm))
    rows = [straight.run_epoch() for _ in range(4)]
    halting = training(small(), SPOS(seed=2, warm_start_steps=warm))
    again = [halting.run_epoch()]
    for epochs in (1, 2):
        save_checkpoint(tmp_path, halting.model, halting.state_dict(), {"epoch": halting.epoch})
        halting = training(small(seed=77), SPOS(seed=2, warm_start_steps=warm))
        torch.rand(5)  # whatever else happened meanwhile
        halting.model.load_state_dict(load_weights(tmp_path))
        halting.load_state_dict(load_state(tmp_path))
        again += [halting.run_epoch() for _ in range(epochs)]
    assert (halting.epoch, halting.step) == (straight.epoch, straight.step) == (4, 20)
    assert [untimed(row) for row in again] == [untimed(row) for row in rows]
    assert changed(halting.model, straight.model.state_dict()) == set()
    moments = [t.optimizer.state_dict()["state"] for t in (halting, straight)]
    assert moments[0].keys() == moments[1].keys()
    for key, state in moments[0].items():
        assert torch.equal(state["momentum_buffer"], moments[1][key]["momentum_buffer"])


def test_a_run_is_a_function_of_its_seeds() -> None:
    nets = []
    for seed, paths in ((5, 2), (5, 2), (6, 2), (5, 3)):
        run = training(small(), SPOS(seed=paths, warm_start_steps=2), seed=seed)
        run.run_epoch()
        nets.append(run.model)
    assert changed(nets[1], nets[0].state_dict()) == set()
    assert changed(nets[2], nets[0].state_dict())  # other batches
    assert changed(nets[3], nets[0].state_dict())  # other paths


class Watching(SPOS):
    """Notes what every step moves, and what is active in it."""

    def attach(self, training: Training) -> None:
        super().attach(training)
        self.moved: list[set[str]] = []
        self.active: list[set[str]] = []
        self.paths: list[Arch] = []
        self.sizes: list[int] = []

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        net = self.training.model
        before, step = snapshot(net), self.training.step
        metrics = super().step(train, valid)
        self.moved.append(changed(net, before))
        self.active.append(active_names(net))
        self.paths.append(self.path(step))
        self.sizes.append(len(train[1]))
        return metrics


def test_candidates_off_the_path_do_not_move() -> None:
    """Neither by weight decay nor by the momentum of an earlier step, nor do their buffers."""
    algo = Watching(seed=0, warm_start_steps=0)
    run = training(small(), algo, momentum=0.9, weight_decay=0.1)
    for _ in range(4):
        run.run_epoch()
    assert len(set(algo.paths)) > 5
    names = set(run.model.state_dict())
    for moved, active in zip(algo.moved, algo.active, strict=True):
        assert moved == active != names


def test_a_warm_start_trains_one_path_and_gives_it_to_all() -> None:
    net, algo = small(), Watching(seed=0, warm_start_steps=5, warm_start_noise=0.0)
    for layer in [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]:
        nn.init.uniform_(layer.weight, 0.5, 2)
    run = training(net, algo)
    first = next(iter(space_of(net)))
    start, outputs, x = snapshot(net), list[Tensor](), images().load().train[0]

    def look(_net: nn.Module, _inputs: object) -> None:
        if run.step == 5:  # every candidate is to start as the trained one
            hook.remove()
            assert len(run.optimizer.state) == 0
            outputs.extend(freeze(net, arch).eval()(x).detach() for arch in space_of(net))

    hook = net.register_forward_pre_hook(look)
    run.run_epoch()
    assert {*algo.paths} == {first}
    assert changed(net, start) == active_names(net) != set(start)
    assert not outputs
    run.run_epoch()
    assert len(outputs) == 18
    for out in outputs:
        torch.testing.assert_close(out, outputs[0], rtol=0, atol=1e-5)
    assert len(set(algo.paths[5:])) > 1


def attached(algo: SPOS) -> SPOS:
    training(small(), algo)
    return algo


def test_paths_are_a_function_of_the_seed() -> None:
    """Two seeds agree in 20 paths of 18 architectures with probability 18^-20."""
    paths = [
        [attached(SPOS(seed=seed, warm_start_steps=3)).path(step) for step in range(3, 23)]
        for seed in (1, 1, 2)
    ]
    assert paths[0] == paths[1] != paths[2]
    algos = [attached(SPOS(seed=seed, warm_start_steps=3)) for seed in range(20)]
    assert len({algo.path(2) for algo in algos}) == 1
    assert len({algo.path(3) for algo in algos}) > 1  # equal with probability 18^-19


def test_paths_are_uniform_and_independent() -> None:
    """Chi-square of 18 architectures, and of 18 * 18 pairs of successive ones.

    False alarms: 1e-6 each, by the quantiles of 17 and 323 degrees of freedom.
    """
    algo = attached(SPOS(seed=3, warm_start_steps=0))
    archs = {arch: i for i, arch in enumerate(space_of(small()))}
    drawn = [archs[algo.path(step)] for step in range(6480)]
    pairs = [18 * a + b for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    for values, cells, limit in ((drawn, 18, 60.2), (pairs, 18 * 18, 458.6)):
        counts = np.bincount(values, minlength=cells)
        expected = len(values) / cells
        assert ((counts - expected) ** 2 / expected).sum() < limit


def test_the_learning_rate_is_a_warm_start_and_a_cosine() -> None:
    algo, steps = SPOS(warm_start_steps=20, warm_start_lr_scale=3.0), 120
    scales = [algo.lr_scale(step, steps) for step in range(steps)]
    assert scales[:3] == [1.5, 3.0, 3.0]
    assert scales[19] == 3.0
    # 100 steps are left: 10 rise, then half a cosine over 90
    assert scales[20:30] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert scales[30] == 1.0
    assert scales[75] == pytest.approx(0.5)
    assert scales[119] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert scales[30:] == sorted(scales[30:], reverse=True)
    assert [SPOS(warm_start_steps=0).lr_scale(s, steps) for s in (0, 60)] == [
        cosine(0, steps),
        cosine(60, steps),
    ]


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 1000])
def test_a_cosine_stays_between_zero_and_one(steps: int) -> None:
    values = [cosine(step, steps) for step in range(steps)]
    assert all(0 < value <= 1 for value in values)
    assert max(values) == 1.0


def test_the_learning_rate_reaches_the_optimizer() -> None:
    algo = SPOS(warm_start_steps=6)
    run = training(small(), algo, lr=0.02)
    assert run.steps == 20
    for epoch in range(4):
        row = run.run_epoch()
        assert row["lr"] == run.optimizer.param_groups[0]["lr"]
        assert row["lr"] == 0.02 * algo.lr_scale(5 * epoch + 4, 20)


class Pulling(OneShot):
    """An algorithm that takes three validation batches a step, and grows its batches."""

    def attach(self, training: Training) -> None:
        self.training = training
        self.seen: list[tuple[Tensor, list[Tensor]]] = []

    def step(self, train: Batch, valid: Iterator[Batch]) -> Metrics:
        self.seen.append((train[1], [next(valid)[1] for _ in range(3)]))
        for choice in mutables(self.training.model):
            choice.route = 0
        loss = self.training.loss(train)
        self.training.descend(loss)
        return {"loss": loss.detach()}

    def epoch_end(self) -> Metrics:
        return {"entropy": torch.tensor(0.25)}

    def batch_size(self, base: int) -> int:
        return base + 2 * self.training.epoch

    def lr_scale(self, step: int, steps: int) -> float:
        return 1.0

    def derive(self) -> dict[str, Value]:
        raise LookupError

    def top_k(self, count: int) -> list[dict[str, Value]]:
        return []

    def distribution(self) -> Distribution:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def ordered(count: int, held: int) -> TensorData:
    """Classes are the examples' own numbers, so that a batch tells which it holds."""
    x = torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = TensorDataset(x, torch.arange(count)), TensorDataset(x[:held], torch.arange(held))
    return TensorData(parts)


def wide() -> nn.Module:
    return nn.Sequential(LayerChoice([nn.Linear(6, 22), nn.Linear(6, 22)])).double()


def test_batches_cover_the_data_in_another_order_each_epoch() -> None:
    algo = Pulling()
    run = training(wide(), algo, ordered(22, 9), batch_size=4)
    rows = [run.run_epoch() for _ in range(2)]
    sizes = [len(train) for train, _ in algo.seen]
    assert sizes == [4] * 5 + [6] * 3  # 22 examples; what is left over is left out
    first, second = (torch.cat([t for t, _ in part]) for part in (algo.seen[:5], algo.seen[5:]))
    assert len(set(first.tolist())) == 20
    assert len(set(second.tolist())) == 18
    assert first[:18].tolist() != second.tolist()
    assert [row["entropy"] for row in rows] == [0.25, 0.25]
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 5), (1, 8)]


def test_validation_batches_go_on_for_as_long_as_they_are_asked() -> None:
    algo = Pulling()
    run = training(wide(), algo, ordered(22, 9), batch_size=4)
    run.run_epoch()
    pulled = torch.cat([batch for _, batches in algo.seen for batch in batches])
    laps = pulled[:56].view(7, 8).tolist()  # 15 batches of 4, two of them to a lap of 9 examples
    assert all(len(set(lap)) == 8 for lap in laps)
    assert len({tuple(lap) for lap in laps}) == 7
    assert training(wide(), Pulling(), ordered(22, 3), batch_size=4).run_epoch()["step"] == 5


def test_a_loss_may_be_that_of_other_weights() -> None:
    run = training(wide(), Pulling(), ordered(22, 9), batch_size=4, label_smoothing=0.2)
    run.run_epoch()
    batch = ordered(22, 9).load().train
    other = {name: torch.zeros_like(p) for name, p in run.model.named_parameters()}
    before = snapshot(run.model)
    assert run.loss(batch, other).item() == pytest.approx(math.log(22))
    assert changed(run.model, before) == set()
    expected = nn.functional.cross_entropy(run.model(batch[0]), batch[1], label_smoothing=0.2)
    assert torch.equal(run.loss(batch), expected)


def test_gradients_are_clipped_to_the_stated_norm() -> None:
    for clip, norm in ((1e-3, 1e-3), (None, None)):
        run = training(wide(), Pulling(), ordered(22, 9), batch_size=4, clip=clip)
        run.run_epoch()
        grads = [p.grad for p in run.model.parameters() if p.grad is not None]
        total = torch.cat([g.flatten() for g in grads]).norm().item()
        assert total == pytest.approx(norm, rel=1e-2) if norm else total > 0.1


@pytest.mark.parametrize("example", [0, 17, 33])
def test_a_loss_that_is_no_number_is_told_with_its_place(example: int) -> None:
    data = images()
    data.load().train[0][example] = math.nan
    order = np.random.default_rng([5, 0, 0]).permutation(40)
    batch = order.tolist().index(example) // 8
    with pytest.raises(FloatingPointError, match=rf"is nan in epoch 0, batch {batch};.*lr=0\.05"):
        training(small(), SPOS(warm_start_steps=0), data).run_epoch()


def test_a_later_epoch_is_told_as_well() -> None:
    data = images()
    run = training(small(), SPOS(warm_start_steps=0), data)
    run.run_epoch()
    data.load().train[0][:] = math.inf
    with pytest.raises(FloatingPointError, match="in epoch 1, batch 0"):
        run.run_epoch()


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 41 is larger than the 40 training examples"):
        training(small(), SPOS(), batch_size=41)
    assert training(small(), SPOS(), batch_size=40).steps == 4


@pytest.mark.parametrize("name", ["warm_start_steps", "warm_start_lr_scale", "warm_start_noise"])
def test_spos_refuses_what_is_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -1"):
        SPOS(**{name: -1})  # type: ignore[arg-type]


def test_spos_learns_no_architecture() -> None:
    algo = attached(SPOS())
    with pytest.raises(LookupError, match="sampler"):
        algo.derive()
    assert algo.batch_size(7) == 7
    assert algo.epoch_end() == {"not_inherited": 0.0}


def on_a_rank(rank: int) -> dict[str, Any]:
    """What each of two processes does and finds."""
    found = trained(seed=rank)
    with pytest.raises(ValueError, match="batch_size 7 does not divide by 2 training workers"):
        training(mlp(), SPOS(), numbers(), batch_size=7)
    data = numbers()
    data.load().train[0][0] = math.nan  # in one of the only batch's halves, of one rank
    with pytest.raises(FloatingPointError, match="in epoch 0, batch 0"):
        training(mlp(), SPOS(), data, batch_size=24).run_epoch()
    return found


def trained(seed: int) -> dict[str, Any]:
    """Train the MLP for three epochs from weights of ``seed``."""
    torch.manual_seed(seed)
    algo = Watching(seed=3, warm_start_steps=4, warm_start_noise=0.1)
    run = training(mlp(), algo, numbers(), epochs=3, clip=0.5)
    rows = [untimed(run.run_epoch()) for _ in range(3)]
    paths = [path.to_json() for path in algo.paths]
    found = {"rows": rows, "weights": run.model.state_dict(), "paths": paths}
    return {**found, "sizes": algo.sizes}


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    first, second = on_two_ranks(on_a_rank, tmp_path)
    alone = trained(seed=0)  # rank 0's weights hold for both
    assert first["paths"] == second["paths"] == alone["paths"]
    assert len(set(alone["paths"])) > 1
    assert first["sizes"] == second["sizes"] == [size / 2 for size in alone["sizes"]]
    for name, weight in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], weight, rtol=0, atol=1e-12)
    assert first["rows"] == second["rows"]
    for row, expected in zip(first["rows"], alone["rows"], strict=True):
        assert row == pytest.approx(expected, abs=1e-6)  # its accuracy is measured in float32


def test_random_sub_networks_learn_the_digits() -> None:
    """Mean accuracy of four after three epochs; chance is 0.1.

    Over 40 seeds it was 0.814 +- 0.026, 0.764 at least: 0.7 is 4.3 deviations below, a false
    alarm of 1e-5 where the arithmetic differs from this machine's.
    """
    torch.manual_seed(0)
    algo = SPOS(seed=0, warm_start_steps=15)
    run = SupernetTraining(
        convnet(), algo, Digits(size=8), TrainSettings(epochs=3, batch_size=32), seed=0
    )
    rows = [run.run_epoch() for _ in range(3)]
    assert rows[0]["accuracy"] < rows[2]["accuracy"]
    assert rows[0]["loss"] > rows[2]["loss"]
    assert rows[2]["accuracy"] > 0.7


def test_a_warm_start_begins_where_there_are_weights() -> None:
    """Candidates without weights stand first, in choices and in what these open."""
    inner = LayerChoice([nn.Identity(), nn.ReLU()], "inner")
    net = nn.Sequential(
        LayerChoice({"skip": nn.Identity(), "one": nn.Linear(6, 6), "two": nn.Linear(6, 6)}, "a"),
        LayerChoice([nn.Identity(), nn.Sequential(nn.Linear(6, 6), inner)], "b"),
        LayerChoice([nn.ReLU(), nn.Tanh()], "c"),
        nn.Linear(6, 3),
    ).double()
    algo = SPOS(warm_start_steps=3, warm_start_noise=0.0)
    run = training(net, algo, numbers(), epochs=2)
    assert algo.path(0) == {"a": "one", "b": 1, "inner": 0, "c": 0}
    for _ in range(2):
        row = run.run_epoch()
    assert row["not_inherited"] == 0.0


def test_a_warm_start_takes_at_most_half_of_a_short_training() -> None:
    net, algo = small(), SPOS(warm_start_steps=10_000, warm_start_noise=0.0)
    run = training(net, algo)
    first = algo.path(0)
    assert algo.path(run.steps // 2 - 1) == first
    later = [algo.path(step) for step in range(run.steps // 2, run.steps)]
    # every later path equals the first with probability 1 / size
    assert any(path != first for path in later)


def test_going_on_with_another_length_is_refused() -> None:
    state = training(small(), SPOS()).state_dict()
    state["steps"] += 1
    with pytest.raises(ValueError, match="use the same epochs and batch_size"):
        training(small(), SPOS()).load_state_dict(state)
