"""The recipe of a training: optimizers, schedules, mixed examples, averages and teachers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core.config import validated
from raynas.core.train_settings import TrainSettings
from raynas.nn.drop_path import DropPath
from raynas.nn.fixed_cell import FixedCell
from raynas.supernet.averaging import WeightAverage
from raynas.supernet.distillation import Teacher
from raynas.supernet.mixing import Mixed, check_mixing, mixed_and_cut
from raynas.supernet.optimizers import optimizer_of
from raynas.supernet.schedules import schedule_of
from raynas.tasks.resolve import task_of

CPU = torch.device("cpu")


def halved(step: int, steps: int) -> float:
    return 0.5 + 0 * step * steps


def lion(groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """A function of a user's own that makes an optimizer."""
    return torch.optim.Adagrad(groups, lr)


def course(steps: int = 10, **fields: Any) -> list[float]:
    """Return the factors of all steps, rounded."""
    factor = schedule_of(TrainSettings(**fields))
    assert factor is not None
    return [round(factor(step, steps), 4) for step in range(steps)]


# --- optimizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        ({}, lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=4e-5, nesterov=True)),
        (
            {"nesterov": False, "momentum": 0.5},
            lambda p: torch.optim.SGD(p, 0.1, 0.5, weight_decay=4e-5),
        ),
        ({"optimizer": "adamw"}, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=4e-5)),
        (
            {"optimizer": "rmsprop"},
            lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.9, weight_decay=4e-5),
        ),
        ({"optimizer": lion}, lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=4e-5)),
    ],
    ids=["sgd", "plain", "adamw", "rmsprop", "own"],
)
def test_weights_move_as_by_the_optimizer_of_torch(fields: dict[str, Any], reference: Any) -> None:
    ours, theirs = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    first = optimizer_of(TrainSettings(lr=0.1, **fields), list(ours.parameters()))
    second = reference(theirs.parameters())
    for seed in range(3):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for net, optimizer in ((ours, first), (theirs, second)):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_norms_and_biases_are_spared_from_decay_on_request() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    settings = TrainSettings(lr=0.5, weight_decay=0.1, momentum=0.0, decay_norms=False)
    optimizer = optimizer_of(settings, list(net.parameters()))
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for old, p in zip(before, net.parameters(), strict=True):
        kept = 1.0 if p.dim() == 1 else 1 - 0.5 * 0.1
        torch.testing.assert_close(p.detach(), kept * old, rtol=1e-6, atol=0)


def test_what_makes_no_optimizer_is_refused() -> None:
    settings = TrainSettings(optimizer=lambda *given: f"adam of {len(given)}")
    with pytest.raises(TypeError, match="expected a torch optimizer, got a str"):
        optimizer_of(settings, [nn.Parameter(torch.ones(1))])


# --- schedules ------------------------------------------------------------------------------------


def test_schedules_by_hand() -> None:
    assert schedule_of(TrainSettings()) is None, "left to the algorithm"
    assert course(4, schedule="constant") == [1, 1, 1, 1]
    assert course(4, schedule="linear") == [1, 0.75, 0.5, 0.25]
    assert course(4, schedule="linear", warmup=0.5) == [0.5, 1.0, 1.0, 0.5]
    assert course(4, schedule="cosine") == [1.0, 0.8536, 0.5, 0.1464]
    assert course(4, warmup=0.25) == [1.0, 1.0, 0.75, 0.25]
    assert course(6, epochs=6, schedule="step", lr_step_epochs=2, lr_step_factor=0.1) == [
        *(1.0, 1.0),
        *(0.1, 0.1),
        *(0.01, 0.01),
    ]
    assert course(2, schedule=halved) == [0.5, 0.5]


@pytest.mark.parametrize("epochs", [1, 3, 7, 10, 30])
def test_steps_fall_at_the_ends_of_epochs(epochs: int) -> None:
    settings = TrainSettings(epochs=epochs, schedule="step", lr_step_epochs=1, lr_step_factor=0.5)
    factor = schedule_of(settings)
    assert factor is not None
    steps = epochs * 7
    assert [factor(step, steps) for step in range(steps)] == [0.5 ** (s // 7) for s in range(steps)]


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"optimizer": "adam"}, "optimizer: expected sgd, adamw, rmsprop or a function; did you"),
        ({"schedule": "cosin"}, "schedule: .*did you mean 'cosine'"),
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum is of sgd and rmsprop"),
        ({"lr_step_epochs": 3}, "are of schedule='step'"),
        ({"schedule": halved, "warmup": 0.1}, "warmup is of named schedules"),
        ({"teacher_weight": 2.0}, "go with a teacher"),
        ({"precision": "half"}, "precision"),
        ({"ema": 1.0}, "ema"),
        ({"optimizer": "tests.nowhere:f"}, "the optimizer was a function of a user's own"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_settings_are_one_sentence(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        validated(TrainSettings, fields)
    assert "\n" not in str(raised.value)


def test_functions_are_written_by_their_path_and_imported_again() -> None:
    settings = TrainSettings(optimizer=lion, schedule=halved)
    written = json.loads(json.dumps(settings.model_dump(mode="json")))
    assert written["optimizer"] == "tests.test_recipe:lion"
    assert written["schedule"] == "tests.test_recipe:halved"
    assert TrainSettings(**written) == settings


# --- mixed examples -------------------------------------------------------------------------------


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_mixup_blends_images_and_weighs_losses() -> None:
    x, y = torch.randn(8, 3, 4, 4), torch.arange(8)
    settings = TrainSettings(mixup=0.4)
    blended, targets = mixed_and_cut(x, y, settings, drawn())
    assert isinstance(targets, Mixed)
    rng = drawn()
    rng.integers(1)
    share = float(rng.beta(0.4, 0.4))
    order = torch.from_numpy(rng.permutation(8))
    assert targets.share == share
    assert torch.equal(targets.first, y)
    assert torch.equal(targets.second, y[order])
    assert torch.equal(blended, share * x + (1 - share) * x[order])


def test_cutmix_pastes_one_patch_and_counts_its_pixels() -> None:
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 8, 10).clone()
    for seed in range(20):
        pasted, targets = mixed_and_cut(x, torch.arange(6), TrainSettings(cutmix=1.0), drawn(seed))
        other = targets.second.float().view(6, 1, 1, 1)
        assert bool(((pasted == x) | (pasted == other)).all())
        moved = targets.second != targets.first
        kept = (pasted == x).float().mean((1, 2, 3))[moved]
        torch.testing.assert_close(kept, torch.full_like(kept, targets.share))


def test_one_of_both_mixes_each_batch() -> None:
    settings, x = TrainSettings(mixup=1.0, cutmix=1.0), torch.rand(4, 1, 6, 6)
    whole = [mixed_and_cut(x, torch.arange(4), settings, drawn(seed))[0] for seed in range(40)]
    pasted = [bool(torch.isin(batch, x).all()) for batch in whole]
    # each is the other's with probability 1/2; none or all of 40 would be a false alarm in 2**-39
    assert 0 < sum(pasted) < 40


def test_cutout_zeroes_a_square_whose_centre_is_anywhere() -> None:
    x = torch.ones(64, 2, 9, 9)
    cut, targets = mixed_and_cut(x, torch.zeros(64), TrainSettings(cutout=4), drawn())
    assert isinstance(targets, Tensor)
    zeros = cut == 0
    assert bool((zeros[:, 0] == zeros[:, 1]).all())
    counts = zeros[:, 0].sum((1, 2))
    assert int(counts.max()) == 16
    assert int(counts.min()) >= 4, "a corner keeps a quarter of the square"
    rows, columns = zeros[:, 0].any(2).sum(1), zeros[:, 0].any(1).sum(1)
    assert torch.equal(rows * columns, counts), "each is one rectangle"


def test_nests_are_mixed_alike_and_whole_numbers_stay() -> None:
    inputs = {"image": torch.randn(4, 1, 2, 2), "token": torch.arange(4)}
    mixed, targets = mixed_and_cut(inputs, torch.arange(4), TrainSettings(mixup=1.0), drawn())
    assert torch.equal(mixed["token"], inputs["token"])
    order = targets.second
    wanted = targets.share * inputs["image"] + (1 - targets.share) * inputs["image"][order]
    assert torch.equal(mixed["image"], wanted)


@pytest.mark.parametrize(
    ("fields", "inputs", "in_model", "told"),
    [
        ({"mixup": 0.2}, torch.zeros(2, 3), True, "mixup: the model computes its own loss"),
        ({"cutmix": 0.2}, torch.zeros(2, 3), False, "cutmix is for images"),
        ({"cutout": 2}, torch.zeros(2, 3), False, "cutout is for images"),
        ({"mixup": 0.2}, torch.zeros(2, 3, dtype=torch.int64), False, "needs inputs of floating"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    fields: dict[str, Any], inputs: Tensor, in_model: bool, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        check_mixing(TrainSettings(**fields), inputs, in_model=in_model)


# --- averages, teachers, dropped paths ------------------------------------------------------------


def test_the_average_is_that_of_the_formula() -> None:
    net = nn.BatchNorm1d(1).double()
    average = WeightAverage(net, 0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 3.0, 5.0, 8.0, 13.0, 21.0]):
        nn.init.constant_(net.weight, value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(average.tensors["weight"]) == pytest.approx(expected, rel=1e-12)
    with average.applied():
        assert float(net.weight.detach()) == pytest.approx(expected, rel=1e-12)
    assert float(net.weight.detach()) == 21.0
    other = WeightAverage(nn.BatchNorm1d(1).double(), 0.5)
    other.load_state_dict(average.state_dict())
    assert other.steps == 6
    assert torch.equal(other.tensors["weight"], average.tensors["weight"])


def test_a_teacher_s_part_of_the_loss_by_hand() -> None:
    teacher = nn.Linear(2, 3).double()
    settings = TrainSettings(teacher=teacher, teacher_weight=0.5, teacher_temperature=2.0)
    x = torch.randn(5, 2, dtype=torch.float64)
    out = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    loss = Teacher(settings, task_of("classification"), CPU).loss(out, x)
    soft = (teacher(x) / 2).softmax(1)
    expected = 0.5 * functional.cross_entropy(out / 2, soft.detach()) * 4
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    loss.backward()
    assert teacher.weight.grad is None
    regression = Teacher(settings, task_of("regression"), CPU).loss(out, x)
    squared = 0.5 * functional.mse_loss(out, teacher(x))
    assert float(regression.detach()) == pytest.approx(float(squared.detach()), rel=1e-12)


def test_a_teacher_is_read_from_a_file(tmp_path: Path) -> None:
    teacher, file = nn.Linear(2, 3).eval(), tmp_path / "teacher.pt2"
    dynamic = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(teacher, (torch.zeros(2, 2),), dynamic_shapes=dynamic), file
    )
    x, out = torch.randn(5, 2), torch.randn(5, 3)
    losses = [
        Teacher(TrainSettings(teacher=given), task_of("classification"), CPU).loss(out, x)
        for given in (teacher, str(file))
    ]
    torch.testing.assert_close(losses[0], losses[1])
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Teacher(TrainSettings(teacher=str(tmp_path / "none.pt2")), task_of(None), CPU)
    with pytest.raises(ValueError, match=r"outputs of shape \(5, 3\), and the network that learns"):
        Teacher(TrainSettings(teacher=teacher), task_of(None), CPU).loss(torch.zeros(5, 4), x)


def cell() -> FixedCell:
    edges = {"0": nn.Linear(1, 1, bias=False), "1": nn.Identity()}
    nn.init.ones_(edges["0"].weight)  # type: ignore[arg-type]
    wiring = [[(0, "0"), (0, "1")]]
    return FixedCell(edges, wiring, None, None, num_predecessors=1, merge_op="all", concat_dim=1)


def test_dropped_paths_keep_their_mean_and_identities_stay() -> None:
    net, count, probability = cell(), 20_000, 0.3
    names = list(net.state_dict())
    DropPath(net).probability = probability
    assert list(net.state_dict()) == names
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = net(torch.ones(count, 1)).detach() - 1.0  # without the identity's part
    kept = out > 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / 0.7))
    deviation = math.sqrt(probability * (1 - probability) / count)
    # five deviations: a false alarm in 6e-7
    assert abs(float(kept.float().mean()) - 0.7) < 5 * deviation
    assert bool((net.eval()(torch.ones(4, 1)) == 2.0).all())


def test_a_network_without_cells_drops_no_paths() -> None:
    with pytest.raises(ValueError, match="Linear has none with operations to drop"):
        DropPath(nn.Linear(1, 1))
