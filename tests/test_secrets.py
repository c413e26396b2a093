"""Passwords and keys of the environment and of options stand in no file and on no screen."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import raynas
from raynas.cli import main
from raynas.core.pipeline import pipeline_config
from raynas.core.progress import RunInfo, RunSummary
from raynas.report.run_log import RunLog
from raynas.report.tracking import TRACKERS, Point, Tracker
from raynas.setup.pipeline import claimed
from tests.inline import INLINE

SECRET = "sentinel0123456789abcdef0123456789abcdef"  # of the length of a Weights & Biases key
VARIABLES = ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN")
SERVER = f"https://me:{SECRET}@tracker.invalid/x?api_key={SECRET}"
SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4])
GIVEN: list[tuple[str, str]] = []  # what a tracker was made with


class Unreachable(Tracker):
    """A tracker whose server says what it was given, and takes nothing.

    Args:
        uri: of the server.
        password: for it.
    """

    def __init__(self, *, uri: str = "", password: str = "") -> None:
        GIVEN.append((uri, password))
        self._text = f"{uri} refuses {password}"

    def begin(self, run: RunInfo, before: str | None) -> str:
        return "1"

    def log(self, points: Sequence[Point]) -> None:
        raise ConnectionError(self._text)

    def finish(self, summary: RunSummary) -> None:
        raise ConnectionError(self._text)

    def end(self, status: str) -> None:
        raise ConnectionError(self._text)


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    GIVEN.clear()
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRET)
    for name in ("_entries", "_aliases", "_names"):
        monkeypatch.setattr(TRACKERS, name, dict(vars(TRACKERS)[name]))
    TRACKERS.register("unreachable", Unreachable)


def score(arch: Mapping[str, Any]) -> dict[str, float]:
    """Score, and go wrong with a server's address in the error."""
    if arch["depth"] == 2:
        raise OSError(f"{SERVER} does not answer")
    return {"accuracy": arch["depth"] / 5}


def holders(folder: Path) -> list[str]:
    """Return the files in which the secret stands."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return [str(file) for file in files if SECRET.encode() in file.read_bytes()]


def search(out: str, **given: Any) -> raynas.Result:
    return raynas.search(
        SPACE, "random", evaluator=score, trials=4, out=out, ray=INLINE, progress=False, **given
    )


def test_no_secret_stands_in_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = ("unreachable", {"uri": SERVER, "password": SECRET})
    with pytest.warns(RuntimeWarning, match=r"track: unreachable took nothing") as told:
        result = search(f"file://{tmp_path}/run", track=["tensorboard", tracker])
    assert (SERVER, SECRET) in GIVEN  # the tracker has it
    assert list(result.trials["status"]).count("failed") == 1
    result.report(str(tmp_path / "run" / "report.html"))
    for command in (["trials", "run"], ["trials", "run", "--json"], ["report", "run", "--force"]):
        assert main(command) == 0
    assert holders(tmp_path) == []
    shown = capfd.readouterr()
    assert SECRET not in shown.out + shown.err + "".join(str(w.message) for w in told)
    entry = json.loads((tmp_path / "run" / "tracking.json").read_text())["unreachable"]
    assert entry["options"] == {"uri": "https://tracker.invalid/x"}


def test_a_run_that_goes_on_says_what_no_file_has_kept(tmp_path: Path) -> None:
    tracker = ("unreachable", {"uri": SERVER, "password": SECRET})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search("run", track=tracker)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        search("run", resume=True)
    texts = [str(warning.message) for warning in told]
    assert any("goes on without what was secret in uri, password" in text for text in texts)
    assert GIVEN[-1] == ("https://tracker.invalid/x", "")
    assert holders(tmp_path) == []


def test_no_secret_of_a_command_stands_in_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = f"unreachable:password={SECRET},uri={SERVER}"
    monkeypatch.setattr("sys.argv", ["raynas", "search", "x", "--track", given])
    log = RunLog()
    log.begin(RunInfo(kind="search", out=str(tmp_path / "run"), config={}))
    log.close()
    assert "password=***" in (tmp_path / "run" / "logs" / "run.log").read_text()
    assert holders(tmp_path) == []


def test_no_secret_of_a_pipeline_stands_in_its_folder(tmp_path: Path) -> None:
    file = {
        "track": {"unreachable": {"uri": SERVER, "password": SECRET}},
        "steps": [{"search": {"space": "mlp", "algo": "random", "trials": 2}}],
    }
    config = pipeline_config(yaml.safe_load(yaml.safe_dump(file)), smoke=False, sets={})
    claimed(config, str(tmp_path / "run"), resume=False)
    assert holders(tmp_path) == []


def test_the_machines_name_stands_in_the_lock_only_while_a_run_goes_on(tmp_path: Path) -> None:
    while_it_runs: list[str] = []

    def look(arch: Mapping[str, Any]) -> dict[str, float]:
        while_it_runs.append((tmp_path / "run" / ".lock").read_text())
        return {"accuracy": arch["depth"] / 5}

    raynas.search(SPACE, "random", evaluator=look, trials=2, out="run", ray=INLINE, progress=False)
    assert all(while_it_runs)
    lock = tmp_path / "run" / ".lock"
    assert not lock.exists() or lock.read_text() == ""
