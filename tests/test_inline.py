"""Searches in the calling process: what they leave is what one Ray worker leaves."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from torch import nn
from torch.utils.data import TensorDataset

import raynas
from raynas.cli import main
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.evaluator import SuccessiveHalving
from raynas.core.halving import Rungs
from raynas.core.progress import Progress
from raynas.data.module import DataModule, Splits
from raynas.nn import LayerChoice
from raynas.storage.run_folder import SUPERNET
from raynas.supernet import job
from raynas.supernet.checkpoint import find_checkpoint, load_weights
from tests.inline import INLINE
from tests.toynet import ToyNet

ONE_WORKER = RayConfig(workers=1, batch=1)
SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4], width=[8, 16, 32], kernel=[3, 5, 7])
OF_ITS_OWN = ["started_utc", "finished_utc", "duration_s", "node", "worker"]  # when and where


def brittle(arch: raynas.Arch) -> Any:
    """Score most architectures, and go wrong in several ways with the others."""
    depth, width, kernel = (float(arch[name]) for name in ("depth", "width", "kernel"))  # type: ignore[arg-type]
    if kernel == 5 and depth == 2:
        raise ArithmeticError("no kernel of five here")
    if width == 32 and depth == 1:
        return {"accuracy": math.nan, "cost": 0.0}
    if width == 32 and depth == 2:
        return "good"
    return {"accuracy": depth * width - kernel, "cost": depth * width * kernel}


def told(result: raynas.Result) -> pd.DataFrame:
    """Return what a run's trials say, but for their time and place."""
    return result.trials.drop(columns=OF_ITS_OWN)


def keys(result: raynas.Result) -> list[str]:
    return [str(key) for key in result.trials["arch_key"]]


def files(folder: Path) -> set[str]:
    """Return the names of all files that are no part of a supernet's checkpoint."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(f"{SUPERNET}/")}


def assert_same(inline: raynas.Result, by_ray: raynas.Result, **tolerance: float) -> None:
    """Assert that two runs say the same: of trials, history, the best, and in which files."""
    pd.testing.assert_frame_equal(told(inline), told(by_ray), **tolerance)  # type: ignore[arg-type]
    mine, theirs = (
        run.history.drop(columns="duration_s", errors="ignore") for run in (inline, by_ray)
    )
    pd.testing.assert_frame_equal(mine, theirs, **tolerance)  # type: ignore[arg-type]
    best = [json.loads(run.folder.read("best.json")) for run in (inline, by_ray)]
    assert best[0] == best[1] == dict(inline.best.arch)
    assert files(Path(inline.path)) == files(Path(by_ray.path))


# --- as one worker of Ray does --------------------------------------------------------------------


@pytest.mark.usefixtures("local_ray")
def test_a_function_is_searched_as_by_one_worker(tmp_path: Path) -> None:
    """Parents, errors and what breaks a bound among the rest; 36 trials are the whole space."""

    def run(ray: RayConfig) -> raynas.Result:
        out = str(tmp_path / str(ray.inline))
        bound = {"cost": (None, 500.0)}
        given: dict[str, Any] = {"trials": 36, "seed": 3, "constraints": bound, "out": out}
        return raynas.search(SPACE, evaluator=brittle, ray=ray, options={"population": 8}, **given)

    inline, by_ray = run(INLINE), run(ONE_WORKER)
    assert_same(inline, by_ray)
    table = inline.trials
    assert set(table["status"]) == {"completed", "failed", "infeasible"}
    assert table["parent"].notna().sum() > 10
    for text in ("ArithmeticError: no kernel", "is nan", "'good' (str)"):
        assert table["error"].str.contains(text, regex=False).any()
    assert set(table["worker"]) == {str(os.getpid())} != set(by_ray.trials["worker"])
    assert set(table["node"]) == set(by_ray.trials["node"])
    assert (table["finished_utc"].diff().dropna() >= pd.Timedelta(0)).all()


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_either_goes_on_with_what_the_other_began(tmp_path: Path) -> None:
    def run(name: str, trials: int, ray: RayConfig) -> raynas.Result:
        out = str(tmp_path / name)
        resume = (tmp_path / name).exists()
        return raynas.search(
            SPACE, evaluator=brittle, trials=trials, out=out, resume=resume, ray=ray
        )

    whole = run("whole", 30, INLINE)
    run("parts", 11, INLINE)
    run("parts", 23, ONE_WORKER)
    parts = run("parts", 30, INLINE)
    assert parts.trials["worker"].nunique() == 2
    assert_same(whole, parts)


class Small(nn.Module):
    """The smallest network with weights and a choice."""

    def __init__(self) -> None:
        super().__init__()
        layers = {"a": nn.Linear(6, 6), "b": nn.Tanh(), "c": nn.Identity()}
        self.choice = LayerChoice(layers, label="choice")
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        logits: torch.Tensor = self.head(self.choice(x))
        return logits


def rows(count: int) -> TensorDataset:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(count))
    return TensorDataset(x, x[:, :4].argmax(1))


DATA = (rows(64), rows(40))


@pytest.mark.usefixtures("local_ray")
def test_a_one_shot_search_is_that_of_a_training_job_and_one_worker(tmp_path: Path) -> None:
    """Training, the architectures that it found, and their scores with the shared weights.

    Numbers not to the last bit: arrays that lie elsewhere may take another vector kernel.
    """

    def run(ray: RayConfig) -> raynas.Result:
        out = str(tmp_path / str(ray.inline))
        options = {"batch_size": 16, "alpha_lr": 0.05}
        return raynas.search(
            Small, "darts", data=DATA, epochs=3, seed=2, out=out, ray=ray, options=options
        )

    inline, by_ray = run(INLINE), run(ONE_WORKER)
    assert len(inline.trials) == 3
    assert list(inline.history["epoch"]) == [0, 1, 2]
    assert_same(inline, by_ray, rtol=1e-4)
    mine, theirs = (load_weights(find_checkpoint(Path(one.path))) for one in (inline, by_ray))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


class Scripted:
    """A training whose accuracy by epoch follows from the network's size alone."""

    epochs, metrics = 4, ("accuracy",)
    stopping = SuccessiveHalving(grace_epochs=1, reduction_factor=2)

    def train_epochs(self, net: nn.Module, data: Any, seed: int) -> Iterator[dict[str, float]]:
        """Yield four epochs; some sizes fail in their third."""
        size = sum(p.numel() for p in net.parameters())
        for epoch in range(self.epochs):
            if size % 7 == 3 and epoch == 2:
                raise ArithmeticError(f"{size} is too much")
            yield {"accuracy": math.sin(size) + epoch / 10}


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_weak_trainings_are_stopped_where_tune_stops_them(tmp_path: Path) -> None:
    def run(ray: RayConfig) -> raynas.Result:
        out = str(tmp_path / str(ray.inline))
        return raynas.search(ToyNet, "random", evaluator=Scripted(), trials=18, out=out, ray=ray)

    inline, by_ray = run(INLINE), run(ONE_WORKER)
    assert_same(inline, by_ray)
    assert set(inline.trials["epochs"]) >= {1, 2, 4}
    assert set(inline.trials["status"]) == {"completed", "failed"}


@st.composite
def reports(draw: st.DrawFn) -> tuple[int, int, float, list[tuple[int, float]]]:
    """Draw halving's settings, and who reports which score, as trainings take turns."""
    grace, factor = draw(st.integers(1, 3)), draw(st.sampled_from([1.5, 2.0, 3.0, 4.0]))
    epochs = draw(st.integers(grace, 12))
    score = st.floats(-1, 1) | st.sampled_from([0.0, 0.5])  # ties as well
    turns = st.tuples(st.integers(0, 5), score)
    return grace, epochs, factor, draw(st.lists(turns, max_size=60))


@given(reports())
@settings(max_examples=100, deadline=None)
def test_rungs_decide_as_tunes_scheduler_does(
    drawn: tuple[int, int, float, list[tuple[int, float]]],
) -> None:
    grace, epochs, factor, turns = drawn
    rungs = Rungs(SuccessiveHalving(grace_epochs=grace, reduction_factor=factor), epochs)
    tune: Any = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=epochs,
        grace_period=grace,
        reduction_factor=factor,
    )
    done: dict[int, int] = {}
    over: set[int] = set()
    for trial, score in turns:
        if trial in over:
            continue
        named = SimpleNamespace(trial_id=str(trial))
        if trial not in done:
            tune.on_trial_add(None, named)
        done[trial] = epoch = done.get(trial, 0) + 1
        decision = tune.on_trial_result(None, named, {"epoch": epoch, "score": score})
        if epoch == epochs:  # a whole training ends by itself
            over.add(trial)
            assert rungs.goes_on(trial, epoch, score)
            continue
        assert rungs.goes_on(trial, epoch, score) == (decision == TrialScheduler.CONTINUE)
        if decision != TrialScheduler.CONTINUE:
            over.add(trial)


# --- in this process, and without Ray -------------------------------------------------------------


@pytest.mark.usefixtures("without_ray")
def test_an_evaluator_runs_here_and_may_stop_at_a_breakpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stopped.append("here"))
    processes: list[int] = []

    def score(_: raynas.Arch) -> float:
        breakpoint()
        processes.append(os.getpid())
        return 1.0

    raynas.search(SPACE, evaluator=score, trials=3, out=str(tmp_path), ray={"inline": True})
    assert processes == [os.getpid()] * 3
    assert stopped == ["here"] * 3


class Pausing(Small):
    """A model that says where it is run."""

    seen: set[int] = set()  # noqa: RUF012

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        self.seen.add(os.getpid())
        return super().forward(x)


@pytest.mark.usefixtures("without_ray")
def test_a_supernet_is_trained_and_scored_here(tmp_path: Path) -> None:
    Pausing.seen.clear()
    threads = torch.get_num_threads()
    out = str(tmp_path)
    found = raynas.search(Pausing, "grid", data=DATA, epochs=1, out=out, ray=INLINE)
    assert Pausing.seen == {os.getpid()}
    assert len(found.trials) == 3
    assert torch.get_num_threads() == threads
    names = [path.name for path in (tmp_path / SUPERNET).iterdir()]
    assert len(names) == 1
    assert names[0].startswith("checkpoint_")


def test_ray_is_not_even_imported(tmp_path: Path) -> None:
    code = f"""
import sys, raynas
space = raynas.ArchSpace.of(x=[1, 2])
raynas.search(space, evaluator=lambda arch: 1.0, trials=2, out={str(tmp_path)!r},
              ray={{"inline": True}})
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(raynas.load(str(tmp_path)).trials) == 2


@pytest.mark.usefixtures("without_ray")
def test_the_command_line_searches_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    asked = ["search", "tests.toynet:ToyNet", "--evaluator", "cost", "--objective", "macs:min"]
    here = ["--ray-option", "inline=true", "--out", out]
    assert main([*asked, *here, "--trials", "18"]) == 0, capsys.readouterr().err
    assert set(raynas.load(out).trials["worker"]) == {str(os.getpid())}
    assert main([*asked, *here, "--ray-option", "workers=2", "--out", out + "2"]) == 2
    assert "leave out workers=2" in capsys.readouterr().err


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_ray")
def test_an_objective_that_is_not_measured_ends_the_search(tmp_path: Path) -> None:
    goal = {"acuracy": "max"}
    given: dict[str, Any] = {"objectives": goal, "trials": 36, "out": str(tmp_path), "ray": INLINE}
    with pytest.raises(SearchFailed, match=r"no metric 'acuracy'.*did you mean 'accuracy'"):
        raynas.search(SPACE, evaluator=lambda _: {"accuracy": 1.0}, **given)
    (row,) = raynas.load(str(tmp_path)).trials.to_dict("records")
    assert row["status"] == "failed"


class Removable(DataModule):
    """Data that may be taken away."""

    name, input_shape, num_classes, batch_size = "removable", (6,), 4, 16
    there = True

    def load(self) -> Splits:
        """Return them while they are there."""
        if not self.there:
            raise OSError("the disk is gone")
        return Splits(DATA[0].tensors, DATA[1].tensors)


class Removing(Progress):
    """Takes data away between the training and the scoring."""

    def __init__(self, data: Removable) -> None:
        self.data = data

    def phase(self, text: str) -> None:
        """Look at what begins."""
        self.data.there = text != "starting the evaluator"


@pytest.mark.usefixtures("without_ray")
def test_an_evaluator_that_cannot_be_made_ends_the_search(tmp_path: Path) -> None:
    data = Removable()
    with pytest.raises(SearchFailed, match="cannot be made: OSError: the disk is gone"):
        raynas.search(
            Small, data=data, epochs=1, out=str(tmp_path), ray=INLINE, progress=Removing(data)
        )
    data.there = True
    found = raynas.search(Small, data=data, epochs=1, out=str(tmp_path), ray=INLINE, resume=True)
    assert len(found.trials) == 3
    assert len(found.history) == 1, "nothing is trained again"


@pytest.mark.usefixtures("without_ray")
def test_ctrl_c_keeps_what_was_told(tmp_path: Path) -> None:
    def score(arch: raynas.Arch) -> float:
        if len(evaluated) == 7 and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        evaluated.append(arch)
        return float(len(evaluated))

    def run(name: str, resume: bool = False) -> raynas.Result:
        out = str(tmp_path / name)
        return raynas.search(SPACE, evaluator=score, trials=12, out=out, resume=resume, ray=INLINE)

    pressed: list[bool] = []
    evaluated: list[raynas.Arch] = []
    with pytest.raises(Interrupted, match=r"after 7 of 12 trials; go on with .*resume=True"):
        run("parts")
    kept = raynas.load(str(tmp_path / "parts")).trials
    assert len(kept) == 7
    assert (tmp_path / "parts" / "best.json").is_file()
    parts = run("parts", resume=True)  # the eighth is asked for again
    assert len(parts.trials) == 12 == parts.trials["arch_key"].nunique() == len(evaluated)
    assert keys(parts) == keys(run("whole"))
    pd.testing.assert_frame_equal(parts.trials[:7], kept)


@pytest.mark.usefixtures("without_ray")
def test_a_training_that_was_stopped_goes_on_with_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Progress):
        def trained(self, row: Any, epochs: int) -> None:
            if row["epoch"] == 1:
                raise KeyboardInterrupt

    def train(name: str, resume: bool = False, progress: Progress | None = None) -> Path:
        path = raynas.train_supernet(
            Small,
            data=DATA,
            epochs=4,
            out=str(tmp_path / name),
            resume=resume,
            ray=INLINE,
            options={"batch_size": 16},
            progress=progress,
        )
        return find_checkpoint(Path(path))

    monkeypatch.setattr(job, "CHECKPOINT_S", 0.0)  # one after every epoch
    whole = train("whole")
    with pytest.raises(Interrupted, match="resume=True"):
        train("parts", progress=Impatient())
    parts = train("parts", resume=True)
    torch.testing.assert_close(load_weights(parts), load_weights(whole), rtol=0, atol=0)
    history = [pd.read_parquet(tmp_path / name / "history") for name in ("whole", "parts")]
    assert list(history[0]["epoch"]) == list(history[1]["epoch"]) == [0, 1, 2, 3]
    assert list(history[0]["loss"]) == list(history[1]["loss"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("address", "auto"),
        ("num_cpus", 2),
        ("workers", 2),
        ("batch", 4),
        ("timeout_s", 3.0),
        ("train_workers", 2),
    ],
)
@pytest.mark.usefixtures("without_ray")
def test_what_takes_other_processes_is_refused(option: str, value: Any, tmp_path: Path) -> None:
    said = f"inline evaluates in the calling process alone: leave out {option}={value!r}"
    with pytest.raises(ValueError, match=said):
        raynas.search(
            SPACE, evaluator=brittle, out=str(tmp_path / "run"), ray={"inline": True, option: value}
        )
    assert not (tmp_path / "run").exists()


def test_one_of_each_is_what_this_process_is() -> None:
    assert RayConfig(inline=True, workers=1, batch=1, train_workers=1).inline
