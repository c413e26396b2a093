"""What trainings draw: functions of the seed alone, so that what was stopped goes on exactly."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from raynas.algorithms.darts import DARTS
from raynas.algorithms.spos import SPOS
from raynas.core.config import ComponentSpec
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn import LayerChoice
from raynas.nn.modelspace import ModelSpace
from raynas.nn.random_state import own_random_state
from raynas.supernet import job as jobs
from raynas.supernet.checkpoint import load_weights
from raynas.supernet.job import SupernetJob, run_job
from raynas.supernet.loop import TrainingLoop
from raynas.supernet.network_training import NetworkTraining
from raynas.supernet.streams import stream, stream_seed
from raynas.supernet.training import SupernetTraining
from tests.ranks import on_two_ranks

CPU = torch.device("cpu")
EPOCHS = 4


class Drawing(nn.Module):
    """Dropout, and scales from numpy's and Python's global states, as users' layers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = nn.functional.dropout(torch.ones_like(x), 0.4)
        self.masks.append(mask)
        return x * mask * (0.5 + np.random.rand()) * (0.5 + random.random())  # noqa: NPY002


class Noisy(TensorData):
    """Adds noise to training inputs, and notes the seeds that it comes from."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        x, y = torch.randn(48, 6, generator=rng), torch.arange(48) % 3
        super().__init__((TensorDataset(x[:32], y[:32]), TensorDataset(x[32:], y[32:])))
        self.seeds: list[int] = []

    def augment(self, x: Tensor, rng: torch.Generator) -> Tensor:
        self.seeds.append(rng.initial_seed())
        return x + 0.1 * torch.randn(x.shape, generator=rng).to(x.device)


class Net(nn.Module):
    """A choice, or what stands in its place, and a layer that draws."""

    def __init__(self, choice: bool = True) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)), nn.Linear(6, 8)]
        self.first = LayerChoice(layers, label="first") if choice else layers[0]
        self.drawing, self.head = Drawing(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drawing(self.first(x)))
        return logits


def net(choice: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Net(choice)


def supernet_by(make: Callable[[], Any]) -> Callable[..., TrainingLoop]:
    def training(seed: int = 5, device: torch.device | None = None) -> TrainingLoop:
        settings = TrainSettings(epochs=EPOCHS, batch_size=8)
        return SupernetTraining(net(True), make(), Noisy(), settings, seed=seed, device=device)

    return training


def network(seed: int = 5) -> TrainingLoop:
    settings = TrainSettings(epochs=EPOCHS, batch_size=8)
    return NetworkTraining(net(False), Noisy(), settings, seed=seed)


TRAININGS: dict[str, Callable[..., TrainingLoop]] = {
    "spos": supernet_by(lambda: SPOS(warm_start_steps=2)),
    "darts": supernet_by(lambda: DARTS(alpha_lr=0.1, unrolled=True)),
    "network": network,
}
every = pytest.mark.parametrize("kind", TRAININGS)


def untimed(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "duration_s"}


def outcome(run: TrainingLoop, epochs: int) -> dict[str, Any]:
    """Train, and return rows, weights, and what the layers drew."""
    rows = [untimed(run.run_epoch()) for _ in range(epochs)]
    if isinstance(run, NetworkTraining):
        rows.append(run.validate())
    masks = [mask.cpu() for mask in run.model.get_submodule("drawing").masks]  # type: ignore[union-attr]
    return {"rows": rows, "weights": run.model.state_dict(), "masks": masks}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def global_states() -> list[Any]:
    """Return torch's, numpy's and Python's own."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return [torch.get_rng_state(), torch.from_numpy(legacy[1]), legacy[2:], random.getstate()]


def something_else() -> None:
    """Draw, as whatever happens in a process besides a training."""
    torch.rand(5)
    np.random.rand(5)  # noqa: NPY002
    random.random()


def stopped(run: TrainingLoop, epochs: int) -> dict[str, Any]:
    """Train for some epochs and return what a checkpoint holds."""
    for _ in range(epochs):
        run.run_epoch()
    file = io.BytesIO()
    torch.save({"weights": run.model.state_dict(), "state": run.state_dict()}, file)
    file.seek(0)
    kept: dict[str, Any] = torch.load(file, weights_only=True)
    return kept


def gone_on(run: TrainingLoop, kept: dict[str, Any]) -> dict[str, Any]:
    """Go on from a checkpoint to the end."""
    run.model.load_state_dict(kept["weights"])
    run.load_state_dict(kept["state"])
    return outcome(run, EPOCHS - run.epoch)


def tail(whole: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return the outcome of a whole training without its first epochs."""
    per_epoch = len(whole["masks"]) // EPOCHS
    rows, masks = whole["rows"][epochs:], whole["masks"][epochs * per_epoch :]
    return {"rows": rows, "weights": whole["weights"], "masks": masks}


@every
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_with_dropout_goes_on_as_if_it_had_not_stopped(kind: str, epochs: int) -> None:
    """Bit for bit, in what layers draw as well."""
    make = TRAININGS[kind]
    kept = stopped(make(), epochs)
    something_else()
    assert same(gone_on(make(), kept), tail(outcome(make(), EPOCHS), epochs))


@every
def test_a_result_depends_on_the_seed_alone(kind: str) -> None:
    first = outcome(TRAININGS[kind](), 2)
    something_else()
    assert same(outcome(TRAININGS[kind](), 2), first)
    other = outcome(TRAININGS[kind](seed=6), 2)
    assert not any(map(torch.equal, other["masks"], first["masks"]))
    assert other["rows"] != first["rows"]


@every
def test_the_global_random_states_are_left_as_they_were(kind: str) -> None:
    before = global_states()
    outcome(TRAININGS[kind](), 2)
    assert same(global_states(), before)


@every
def test_every_step_draws_anew(kind: str) -> None:
    run = TRAININGS[kind]()
    masks = outcome(run, 2)["masks"]
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == len(masks) >= 8
    assert isinstance(run._data, Noisy)
    assert len(set(run._data.seeds)) == len(run._data.seeds) == 8


def on_a_rank(rank: int) -> dict[str, Any]:
    """Train to the end, and from the first rank's checkpoint to the end."""
    found = {}
    for kind, make in TRAININGS.items():
        run = make()
        whole = outcome(run, EPOCHS)
        assert isinstance(run._data, Noisy)
        kept = [stopped(make(), 2)]
        torch.distributed.broadcast_object_list(kept, 0)
        torch.rand(rank)
        again = same(gone_on(make(), kept[0])["masks"], tail(whole, 2)["masks"])
        found[kind] = {**whole, "again": again, "seeds": run._data.seeds}
    return found


def test_layers_of_ranks_draw_different_numbers_and_go_on_from_one_checkpoint(
    tmp_path: Path,
) -> None:
    """Which holds no random state, as that of the first rank would be wrong for the other."""
    both = on_two_ranks(on_a_rank, tmp_path)
    for kind in TRAININGS:
        first, second = (found[kind] for found in both)
        assert first["again"]
        assert second["again"]
        assert first["seeds"] == second["seeds"]  # of the batch of both
        assert not any(map(torch.equal, first["masks"], second["masks"]))


@every
def test_a_checkpoint_of_another_training_is_refused(kind: str) -> None:
    state = TRAININGS[kind]().state_dict()
    with pytest.raises(ValueError, match=r"was of seed 5, not of 6: use the same seed"):
        TRAININGS[kind](seed=6).load_state_dict(state)
    with pytest.raises(ValueError, match=r"was of 20 steps in all, not of 16: use the same epochs"):
        TRAININGS[kind]().load_state_dict({**state, "steps": 20})


def test_a_checkpoint_that_holds_a_random_state_still_loads() -> None:
    """As those of release 0.1, which knew no seed, do."""
    kept = stopped(TRAININGS["spos"](), 1)
    del kept["state"]["seed"]
    kept["state"]["torch_rng"] = torch.get_rng_state()
    before = global_states()
    assert same(gone_on(TRAININGS["spos"](), kept)["rows"][-1], untimed(rows_of("spos")[-1]))
    assert same(global_states(), before)


def rows_of(kind: str) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = outcome(TRAININGS[kind](), EPOCHS)["rows"]
    return rows


# --- streams --------------------------------------------------------------------------------------


def test_streams_are_those_of_what_was_trained_before() -> None:
    """Which left out the rank 0, and the stream 0 of the order of images."""
    for seed in (0, 5, 2**32 - 1):
        expected = np.random.default_rng([seed, 3]).permutation(50)
        assert stream(seed, 3).permutation(50).tolist() == expected.tolist()
        assert stream_seed(seed, 3, 2) == np.random.default_rng([seed, 3, 2]).integers(2**31)
        assert stream_seed(seed, 3, 2, 1) == np.random.default_rng([seed, 3, 2, 1]).integers(2**31)


def test_streams_differ_in_every_part() -> None:
    parts = [(5, 3, 2, 1), (6, 3, 2, 1), (5, 4, 2, 1), (5, 3, 1, 1), (5, 3, 2, 0), (2**40, 3, 2, 1)]
    assert len({stream_seed(*part) for part in parts}) == len(parts)


def test_an_error_leaves_the_global_states_as_they_were() -> None:
    before = global_states()

    def fail() -> None:
        with own_random_state(CPU, 2**40):
            something_else()
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        fail()
    assert same(global_states(), before)


# --- jobs -----------------------------------------------------------------------------------------


class Killed(Exception):
    """Ends a training from outside."""


def test_a_job_that_is_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, after each of its epochs, by an algorithm of the registry."""
    monkeypatch.setattr(jobs, "CHECKPOINT_S", -1.0)  # one after every epoch
    job = SupernetJob(
        space=ModelSpace(Net, input_shape=(6,)),
        data=Noisy(),
        algo=ComponentSpec(name="darts", options={"alpha_lr": 0.1}),
        settings=TrainSettings(epochs=EPOCHS, batch_size=8),
        seed=3,
        about={"space": "net"},
    )

    def train(name: str, checkpoint: Path | None = None, last: int = EPOCHS) -> list[Any]:
        rows: list[Any] = []

        def report(row: dict[str, Any], folder: Path | None) -> None:
            assert folder is not None
            folder.rename(tmp_path / f"{name}{len(rows)}")
            folder.mkdir()  # for who made it to remove
            rows.append(untimed(row))
            if row["epoch"] == last - 1 < EPOCHS - 1:
                raise Killed

        options = job.algo.options
        try:
            run_job(job, options, device=None, checkpoint=checkpoint, report=report)
        except Killed:
            assert len(rows) == last
        return rows

    whole = train("whole")
    for last in (1, 2, 3):
        first = train(f"killed{last}_", last=last)
        something_else()
        rest = train(f"again{last}_", tmp_path / f"killed{last}_{last - 1}")
        assert [*first, *rest] == whole
        ends = tmp_path / f"whole{EPOCHS - 1}", tmp_path / f"again{last}_{EPOCHS - last - 1}"
        assert same(*map(load_weights, ends))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("kind", ["spos", "darts"])
def test_dropout_on_a_gpu_goes_on_as_if_it_had_not_stopped(kind: str) -> None:
    """Masks bit for bit; the sums of a GPU's backward pass may not be."""
    gpu, make = torch.device("cuda", 0), TRAININGS[kind]
    before = torch.cuda.get_rng_state(gpu)
    whole = outcome(make(device=gpu), EPOCHS)
    assert torch.equal(torch.cuda.get_rng_state(gpu), before)
    kept = stopped(make(device=gpu), 2)
    torch.rand(5, device=gpu)
    assert same(gone_on(make(device=gpu), kept)["masks"], tail(whole, 2)["masks"])
