"""A full disk, a read-only folder and a clock that jumps: a sentence, nothing torn, and resumed."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.cli.exit_codes import FAILED, exit_code
from raynas.core.config import RayConfig
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.setup.asked_begin import ask_tell
from raynas.storage.tables import read_history, read_trials
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace.of(x=list(range(40)), y=list(range(40)))
TRIALS = 150
FULL_KB, ROOMY_KB = 400, 8_000
FULL = r"/run/.* cannot be written: No space left on device; make room, and go on with resume=True"


class Disk:
    """A file system of its own, in memory.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk; skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    option = f"size={FULL_KB}k"
    command = ["mount", "-t", "tmpfs", "-o", option, "none", str(place)]
    if os.name != "posix" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk of a test's own takes root, and mount")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def scored(arch: Mapping[str, Any]) -> dict[str, Any]:
    return {"accuracy": arch["x"] + arch["y"] / 40, "log": "text " * 200}


def searched(out: Path, ray: RayConfig = INLINE, **given: Any) -> raynas.Result:
    return raynas.search(SPACE, "random", evaluator=scored, out=str(out), ray=ray, **given)


def hidden(folder: Path) -> list[str]:
    """Return the files that are there half."""
    return [path.name for path in folder.rglob(".*")]


@pytest.mark.parametrize(
    "on_ray", [False, pytest.param(True, marks=[pytest.mark.full, pytest.mark.xdist_group("ray")])]
)
def test_a_search_ends_on_a_full_disk_and_goes_on_when_there_is_room(
    disk: Disk, on_ray: bool, request: pytest.FixtureRequest
) -> None:
    if on_ray:
        request.getfixturevalue("local_ray")
    ray = RayConfig(workers=1) if on_ray else INLINE
    out = disk.path / "run"
    with pytest.raises(OSError, match=FULL) as caught:
        searched(out, ray, trials=10 * TRIALS)
    assert exit_code(caught.value) == FAILED
    assert hidden(out) == []
    before = raynas.load(str(out)).trials
    assert 0 < len(before) < 10 * TRIALS
    disk.remount(f"size={ROOMY_KB}k")
    goal = len(before) + 10
    after = searched(out, ray, trials=goal, resume=True).trials
    assert len(after) == goal
    assert after["arch_key"].is_unique, "no architecture is evaluated twice"
    assert after.head(len(before)).equals(before)
    assert hidden(out) == []


class Filling(Progress):
    """Fills a disk after the first epoch, or the first architecture."""

    def __init__(self, ballast: Path) -> None:
        self._ballast = ballast

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        self._fill()

    def told(self, study: Study) -> None:
        if study.told:
            self._fill()

    def _fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))


def test_a_supernet_ends_on_a_full_disk_and_goes_on_when_there_is_room(disk: Disk) -> None:
    disk.remount(f"size={ROOMY_KB}k")
    given: dict[str, Any] = {"space": raynas.ModelSpace(ToyNet), "out": str(disk.path / "run")}
    given |= {"epochs": 2, "ray": INLINE}
    ballast = disk.path / "ballast"
    with pytest.raises(OSError, match=FULL) as caught:
        raynas.train_supernet(**given, progress=Filling(ballast))
    assert exit_code(caught.value) == FAILED
    assert hidden(disk.path) == []
    assert read_history(given["out"])["epoch"].to_pylist() == [0]
    ballast.unlink()
    raynas.train_supernet(**given, resume=True)
    assert read_history(given["out"])["epoch"].to_pylist() == [0, 1]


ON_RAY = RayConfig(train_workers=2, cpus_per_train_worker=1)
ARCH = {"first": "k3", "second": 0, "third": 0}
EPOCHS = 8  # more than are trained until the disk is full


def trained(out: str, ray: RayConfig, **given: Any) -> str:
    return raynas.train_supernet(
        raynas.ModelSpace(ToyNet), out=out, epochs=EPOCHS, ray=ray, resume=True, **given
    )


def retrained(out: str, ray: RayConfig, **given: Any) -> str:
    space = raynas.ModelSpace(ToyNet)
    given |= {"epochs": EPOCHS, "resume": True}
    return raynas.retrain(ARCH, space=space, out=out, ray=ray, **given).path


@pytest.mark.full
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("ray", [INLINE, RayConfig(), ON_RAY], ids=["inline", "here", "workers"])
@pytest.mark.parametrize("train", [trained, retrained])
def test_a_training_ends_on_a_full_disk_and_goes_on_when_there_is_room(
    disk: Disk,
    train: Callable[..., str],
    ray: RayConfig,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if not ray.inline:
        request.getfixturevalue("local_ray")
    disk.remount(f"size={ROOMY_KB}k")
    out, ballast = str(disk.path / "run"), disk.path / "ballast"
    with pytest.raises((OSError, RuntimeError), match=FULL) as caught:
        train(out, ray, progress=Filling(ballast))
    assert exit_code(caught.value) == FAILED
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).count("cannot be written") == 1
    before = read_history(out)["epoch"].to_pylist()
    assert 0 < len(before) < EPOCHS
    assert before == list(range(len(before)))
    ballast.unlink()
    train(out, ray)
    assert read_history(out)["epoch"].to_pylist() == list(range(EPOCHS))
    undisturbed = train(str(tmp_path / "run"), ray)
    columns = ["epoch", "loss"]
    rows = [read_history(o).select(columns).to_pylist() for o in (out, str(tmp_path / "run"))]
    assert rows[0] == rows[1]
    assert undisturbed


@pytest.mark.full
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("ray", [INLINE, RayConfig(workers=1)], ids=["inline", "workers"])
def test_a_verification_ends_on_a_full_disk_and_goes_on_when_there_is_room(
    disk: Disk, ray: RayConfig, request: pytest.FixtureRequest
) -> None:
    if not ray.inline:
        request.getfixturevalue("local_ray")
    disk.remount(f"size={ROOMY_KB}k")
    out, ballast = disk.path / "run", disk.path / "ballast"
    space, objectives = raynas.ModelSpace(ToyNet), {"nwot": "max"}
    given: dict[str, Any] = {"evaluator": "nwot", "objectives": objectives, "trials": 6}
    result = raynas.search(space, "random", out=str(out), ray=INLINE, **given)
    verify: dict[str, Any] = {"top": 2, "seeds": 2, "options": {"epochs": 1}, "ray": ray}
    with pytest.raises(OSError, match=FULL) as caught:
        result.verify(**verify, progress=Filling(ballast))
    assert exit_code(caught.value) == FAILED
    assert hidden(out) == []
    before = _verified(out)
    assert 0 < len(before) < 8
    ballast.unlink()
    verified = result.verify(**verify)
    assert verified.table["seeds"].tolist() == [2] * 4
    after = _verified(out)
    assert len(after) == 8, "what was trained is not trained again"
    assert all(row in after for row in before)


def _verified(out: Path) -> list[tuple[str, str, float]]:
    """Return folder, architecture and score of all rows of a run's verification."""
    folders = sorted((out / "verify").glob("*/seed-*"))
    rows = [
        (folder.name, row) for folder in folders for row in read_trials(str(folder)).to_pylist()
    ]
    return [(seed, row["arch_key"], row["accuracy"]) for seed, row in rows]


def test_what_is_read_only_is_read_and_said_to_be_so(disk: Disk) -> None:
    disk.remount(f"size={ROOMY_KB}k")
    run, told = disk.path / "run", disk.path / "told" / "run"
    searched(run, trials=3)
    study = ask_tell(SPACE, out=str(told), trials=5)
    (proposal,) = study.ask()
    disk.remount("ro")
    tries: list[Callable[[], object]] = [
        lambda: searched(run, trials=6, resume=True),
        lambda: searched(disk.path / "new" / "run", trials=6),
        lambda: raynas.train_supernet(raynas.ModelSpace(ToyNet), out=str(run), ray=INLINE),
        lambda: study.tell(proposal, 0.5),
    ]
    for write in tries:
        with pytest.raises(OSError, match="Read-only file system") as caught:
            write()
        assert "/run" in str(caught.value)
        assert "cannot be written to (out=)" in str(caught.value)
        assert exit_code(caught.value) == FAILED
    assert len(raynas.load(str(run)).trials) == 3
    disk.remount("rw")
    assert len(searched(run, trials=6, resume=True).trials) == 6
    assert study.tell(proposal, 0.5) is not None


def test_clocks_that_jump_change_neither_order_nor_durations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = itertools.cycle([3600.0, -3600.0, -86_400.0, 0.0])
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() + next(jumps))
        searched(tmp_path / "run", trials=5)
    result = searched(tmp_path / "run", trials=9, resume=True)
    table = result.trials
    assert table["trial"].to_list() == list(range(9))
    assert table["told_event"].is_monotonic_increasing
    assert table["arch_key"].is_unique
    assert table["duration_s"].between(0, 60).all()
    spans = table["finished_utc"] - table["started_utc"]
    assert spans.between(timedelta(0), timedelta(minutes=1)).all()
    starts = table["started_utc"].diff().dropna()
    assert starts.abs().max() > timedelta(minutes=30), "the clock did jump"
    undisturbed = searched(tmp_path / "other", trials=9).trials
    assert undisturbed["arch_key"].to_list() == table["arch_key"].to_list()
