"""Laws over the zoo: what is scored is what is made, stops change nothing, costs are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import raynas
from raynas.algorithms import SPOS
from raynas.core.config import ComponentSpec
from raynas.core.evaluator import Budget
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.evaluators.shared import SharedEvaluator
from raynas.nn import freeze
from raynas.nn.modelspace import ModelSpace
from raynas.supernet import job as jobs
from raynas.supernet.attributes import read_attributes, write_attributes
from raynas.supernet.calibration import recalibrate
from raynas.supernet.checkpoint import (
    load_attributes,
    load_shared,
    load_state,
    load_weights,
    save_checkpoint,
)
from raynas.supernet.distributed import ProcessGroup
from raynas.supernet.job import SupernetJob, run_job
from raynas.supernet.streams import stream
from raynas.supernet.training import PROBES, SupernetTraining
from tests.inline import INLINE
from tests.ranks import on_two_ranks
from tests.zoo import CLASSES, ZOO, Odd

every_model = pytest.mark.parametrize("name", ZOO)
TRAIN, VALID = 96, 64  # few enough that scoring calibrates and validates on all of them
SEED = 1
SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 0.1}
ALGO = {"warm_start_steps": 2}
MOST = 32  # architectures of a space; all are scored
TOLERANCE = 1e-4  # of a loss; float32, in batches of other sizes

Searched = dict[str, raynas.Result]
Folders = pytest.TempPathFactory


def examples(count: int, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Noise around the one of four patterns that stands for the class."""
    rng = torch.Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, *shape, generator=torch.Generator().manual_seed(7))
    y = torch.arange(count) % CLASSES
    return patterns[y] + 0.5 * torch.randn(count, *shape, generator=rng), y


def data_for(model: Odd) -> tuple[TensorDataset, TensorDataset]:
    train, valid = examples(TRAIN, model.input_shape, 0), examples(VALID, model.input_shape, 1)
    return TensorDataset(*train), TensorDataset(*valid)


def space_for(model: Odd) -> ModelSpace:
    return ModelSpace(model.factory, input_shape=model.input_shape).seeded(SEED)


@pytest.fixture(scope="module")
def searched() -> Searched:
    """What has been searched, by name; filled as laws ask for it."""
    return {}


def run_of(name: str, searched: Searched, folders: Folders) -> raynas.Result:
    if name not in searched:
        searched[name] = raynas.search(
            ZOO[name].factory,
            "random",
            data=data_for(ZOO[name]),
            supernet=SETTINGS | ALGO,
            trials=MOST,
            seed=SEED,
            out=str(folders.mktemp(name)),
            ray=INLINE,
        )
    return searched[name]


def rows_of(run: raynas.Result) -> list[tuple[raynas.Arch, dict[str, Any]]]:
    table = run.trials
    assert set(table["status"]) == {"completed"}
    rows = json.loads(
        table[["arch", "loss", "accuracy", "macs", "params"]].to_json(orient="records")
    )
    return [(raynas.Arch.from_json(row["arch"]), row) for row in rows]


@every_model
def test_the_score_of_a_model_is_the_row_of_the_table(
    name: str, searched: Searched, tmp_path_factory: Folders
) -> None:
    run = run_of(name, searched, tmp_path_factory)
    x, y = examples(VALID, ZOO[name].input_shape, 1)
    again = raynas.load(run.path, space=ZOO[name].factory, data=data_for(ZOO[name]))
    for arch, row in rows_of(run):
        for result in (run, again):
            with torch.no_grad():
                logits = result.model(arch)(x)
            loss = nn.functional.cross_entropy(logits, y).item()
            assert loss == pytest.approx(row["loss"], rel=TOLERANCE)
            right = (logits.argmax(1) == y).double().mean().item()
            assert right == pytest.approx(row["accuracy"], abs=1 / VALID)


@every_model
def test_what_is_scored_is_what_was_trained(
    name: str, searched: Searched, tmp_path_factory: Folders
) -> None:
    """The last epoch's accuracy is the mean of a few architectures', measured by the training."""
    run, rng = run_of(name, searched, tmp_path_factory), stream(SEED, 7)
    space = space_for(ZOO[name])
    accuracies = {arch: row["accuracy"] for arch, row in rows_of(run)}
    probed = [space.arch_space.sample(rng) for _ in range(PROBES)]
    expected = sum(accuracies[arch] for arch in probed) / PROBES
    assert run.history["accuracy"].iloc[-1] == pytest.approx(expected, abs=0.5 / VALID)


@every_model
def test_what_workers_score_is_the_network_that_training_has_left(
    name: str, tmp_path: Path
) -> None:
    space, data = space_for(ZOO[name]), TensorData(data_for(ZOO[name]))
    algo = SPOS(seed=SEED, **ALGO)
    training = SupernetTraining(space.supernet(), algo, data, TrainSettings(**SETTINGS), seed=SEED)
    for _ in range(SETTINGS["epochs"]):
        training.run_epoch()
    attributes = read_attributes(training.model, space.supernet())
    save_checkpoint(tmp_path, training.model, {}, {"seed": SEED}, attributes)
    evaluator = SharedEvaluator(space, data, load_shared(tmp_path), SEED)
    (x, _), (x_valid, y) = data.load().train, data.load().valid
    for arch in space.arch_space:
        net = freeze(training.model, arch)
        recalibrate(net, x)
        with torch.no_grad():
            loss = nn.functional.cross_entropy(net.eval()(x_valid), y).item()
        (row,) = evaluator([arch], Budget(), SEED)
        assert row.metrics["loss"] == pytest.approx(loss, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["RandomPermutation", "OwnGenerators", "Temperature", "Tied"])
def test_a_supernet_of_another_seed_is_searched_as_it_was_trained(
    name: str, searched: Searched, tmp_path: Path, tmp_path_factory: Folders
) -> None:
    run = run_of(name, searched, tmp_path_factory)
    again = raynas.search(
        ZOO[name].factory,
        "random",
        data=data_for(ZOO[name]),
        supernet=run.path,
        trials=MOST,
        seed=SEED + 1,
        out=str(tmp_path),
        ray=INLINE,
    )
    rows, (x, y) = dict(rows_of(run)), examples(VALID, ZOO[name].input_shape, 1)
    for arch, row in rows_of(again):
        assert row["loss"] == pytest.approx(rows[arch]["loss"], rel=TOLERANCE)
        assert row["params"] == rows[arch]["params"]
        with torch.no_grad():
            loss = nn.functional.cross_entropy(again.model(arch)(x), y).item()
        assert loss == pytest.approx(row["loss"], rel=TOLERANCE)


def signs(_rank: int) -> list[Tensor]:
    """Return what a rank draws, and what it trains with."""
    model: Any = ZOO["OwnGenerators"].factory()
    drawn = model.signs[0].clone()
    write_attributes(model, ProcessGroup().from_first(read_attributes(model)))
    return [drawn, model.signs[0]]


def test_ranks_compute_with_the_first_one_s_attributes(tmp_path: Path) -> None:
    (first, ours), (other, theirs) = on_two_ranks(signs, tmp_path)
    assert not torch.equal(first, other)
    assert torch.equal(ours, first)
    assert torch.equal(theirs, first)


@pytest.mark.parametrize("name", ["NormsFrozen", "FrozenLayer"])
def test_frozen_norms_keep_the_statistics_that_they_were_built_with(
    name: str, searched: Searched, tmp_path_factory: Folders
) -> None:
    run = run_of(name, searched, tmp_path_factory)
    built = space_for(ZOO[name]).supernet().get_submodule("norm")
    for arch, _ in rows_of(run):
        norm = run.model(arch).get_submodule("norm")
        for statistic in ("running_mean", "running_var"):
            assert torch.equal(norm.get_buffer(statistic), built.get_buffer(statistic))


@every_model
def test_going_on_equals_never_stopping(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "CHECKPOINT_S", 0.0)
    whole = trained(ZOO[name], tmp_path / "whole", None)
    gone_on = trained(ZOO[name], tmp_path / "on", tmp_path / "whole" / "1")
    assert not (tmp_path / "on" / "1").exists()
    for load in (load_weights, load_attributes):
        assert_equal(load(gone_on), load(whole))
    assert_equal(load_state(gone_on)["optimizer"], load_state(whole)["optimizer"])


def trained(model: Odd, folder: Path, checkpoint: Path | None) -> Path:
    """Train and return the last checkpoint; each epoch's is in a folder of its own."""
    job = SupernetJob(
        space=space_for(model),
        data=TensorData(data_for(model)),
        algo=ComponentSpec(name="spos", options=ALGO),
        settings=TrainSettings(**SETTINGS),
        seed=SEED,
        about={},
    )
    folder.mkdir()

    def report(row: dict[str, Any], saved: Path | None) -> None:
        assert saved is not None
        saved.rename(folder / str(int(row["epoch"])))
        saved.mkdir()

    run_job(job, job.algo.options, device=None, checkpoint=checkpoint, report=report)
    return folder / str(SETTINGS["epochs"] - 1)


def assert_equal(ours: Any, theirs: Any) -> None:
    leaves, form = tree_flatten(ours)
    others, other_form = tree_flatten(theirs)
    assert form == other_form
    for first, second in zip(leaves, others, strict=True):
        assert torch.equal(first, second) if isinstance(first, Tensor) else first == second


@every_model
def test_costs_are_those_that_torch_counts(
    name: str, searched: Searched, tmp_path_factory: Folders
) -> None:
    run, model = run_of(name, searched, tmp_path_factory), ZOO[name]
    x = torch.zeros(1, *model.input_shape)
    for arch, row in rows_of(run):
        net, missed = run.model(arch), model.uncounted.get(str(next(iter(arch.values()))), 0)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(x)
        assert counter.get_total_flops() + 2 * missed == 2 * row["macs"]
        assert sum(p.numel() for p in net.parameters()) == row["params"]
