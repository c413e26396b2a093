"""One run at a time writes to a folder: the second is told whose it is, and a dead one has none."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.cli import main
from raynas.cli.exit_codes import FAILED
from raynas.core.errors import FolderInUse
from raynas.setup.asked_begin import ask_tell
from raynas.storage.local_lock import LOCK
from raynas.storage.run_lock import RunLock
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace.of(x=list(range(9)), y=list(range(9)))
HANGS_S = 120


def score(arch: Mapping[str, Any]) -> float:
    return float(arch["x"])


def searched(out: Path | str, evaluator: Any = score, **given: Any) -> raynas.Result:
    return raynas.search(SPACE, "random", evaluator=evaluator, out=str(out), ray=INLINE, **given)


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Path]:
    """A finished run's folder, which somebody else has taken."""
    out = tmp_path / "run"
    searched(out, trials=3)
    with RunLock("search") as lock:
        lock.take(str(out))
        yield out


def trained(out: Path) -> str:
    return raynas.train_supernet(raynas.ModelSpace(ToyNet), out=str(out), resume=True, ray=INLINE)


def retrained(out: Path) -> raynas.Trained:
    arch = {"first": "k3", "second": 0, "third": 0}
    return raynas.retrain(arch, space=raynas.ModelSpace(ToyNet), out=str(out), ray=INLINE)


@pytest.mark.parametrize(
    "write",
    [
        lambda out: searched(out, trials=5),
        lambda out: searched(out, trials=5, resume=True),
        lambda out: searched(f"file://{out}", trials=5, resume=True),
        lambda out: ask_tell(out=str(out)),
        trained,
        retrained,
    ],
)
def test_who_has_a_folder_is_told_to_whoever_writes_to_it(
    taken: Path, write: Callable[[Path], object]
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in taken.iterdir() if path.is_file()}
    with pytest.raises(FolderInUse) as caught:
        write(taken)
    holder = f"(search, pid {os.getpid()} on {platform.node()})"
    assert f"{taken} is being written to by another process {holder}" in str(caught.value)
    assert "choose another folder (out=, --out)" in str(caught.value)
    after = {path.name: path.stat().st_mtime_ns for path in taken.iterdir() if path.is_file()}
    assert after.keys() == before.keys() | {".lock"} or after == before
    assert len(raynas.load(str(taken)).trials) == 3, "readers take no lock"


def test_commands_say_so_with_exit_code_1_and_readers_go_on(
    taken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (["ask", str(taken)], ["search", "mlp", "--out", str(taken), "--resume"]):
        assert main(command) == FAILED
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {taken} is being written to by another process (search")
    monkeypatch.chdir(taken.parent)
    assert main(["trials", str(taken)]) == 0
    assert main(["report", str(taken)]) == 0


def test_a_search_keeps_a_second_one_and_other_peoples_results_out(tmp_path: Path) -> None:
    out = tmp_path / "run"
    said: list[str] = []

    def meanwhile(arch: Mapping[str, Any]) -> float:
        for write in (lambda: searched(out, trials=9, resume=True), lambda: ask_tell(out=str(out))):
            with pytest.raises(FolderInUse) as caught:
                write()
            said.append(str(caught.value))
        return score(arch)

    table = searched(out, meanwhile, trials=4).trials
    assert len(said) == 8
    assert sorted(table["trial"]) == list(range(4))
    assert set(table["status"]) == {"completed"}
    assert not (out / LOCK).exists(), "nothing is left of it"
    assert len(searched(out, meanwhile, trials=6, resume=True).trials) == 6


def test_a_search_waits_for_a_call_of_ask_and_tell(tmp_path: Path) -> None:
    """These hold the folder for a moment, and need not be looked out for."""
    study = ask_tell(SPACE, out=str(tmp_path / "run"), trials=5)
    hold = "import sys, time; from raynas.storage.pending import locked\n"
    hold += "with locked(sys.argv[1]): print('taken', flush=True); time.sleep(1)\n"
    with subprocess.Popen(
        [sys.executable, "-c", hold, study.path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        with RunLock("search") as lock:
            lock.take(study.path)
            assert other.wait(HANGS_S) == 0
    assert study.ask() != []


FORKED = """
import os, sys, time
from raynas.storage.run_lock import RunLock
with RunLock("search") as lock:
    lock.take(sys.argv[1])
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
    time.sleep(600)
"""


def test_a_killed_run_holds_nothing_though_its_children_live(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", FORKED, str(out)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        with pytest.raises(FolderInUse, match=f"pid {run.pid} "):
            searched(out, trials=3)
        assert json.loads((out / LOCK).read_text())["pid"] == run.pid
        run.send_signal(signal.SIGKILL)
        run.wait(HANGS_S)
        os.kill(child, 0)  # it lives
        try:
            assert len(searched(out, trials=3).trials) == 3
        finally:
            os.kill(child, signal.SIGKILL)
    assert not (out / LOCK).exists()


def test_a_second_verification_is_refused_and_a_search_is_not(tmp_path: Path) -> None:
    given: dict[str, Any] = {"evaluator": "nwot", "trials": 3, "out": str(tmp_path / "run")}
    given["objectives"] = {"nwot": "max"}
    result = raynas.search(raynas.ModelSpace(ToyNet), "random", **given, ray=INLINE)
    with RunLock("verification") as lock:
        lock.take(f"{result.path}/verify")
        with pytest.raises(FolderInUse, match=r"/verify is being .*\(verification, pid "):
            result.verify(top=1, seeds=1, options={"epochs": 1}, ray=INLINE)
        given["trials"] = 4
        again = raynas.search(raynas.ModelSpace(ToyNet), "random", **given, resume=True, ray=INLINE)
    assert len(again.trials) == 4
