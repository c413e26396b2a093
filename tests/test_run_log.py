"""The log of a run: everything that happened, in order, wherever the run's folder lies."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import fs

import raynas
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.progress import RunInfo
from raynas.nn import space_of
from raynas.report.run_log import RunLog
from raynas.storage import text_log
from raynas.storage.run_folder import Folder
from raynas.storage.tables import read_history
from raynas.storage.text_log import TextLog
from tests.inline import INLINE
from tests.toynet import ToyNet

SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4, 5, 6])
ENTRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) +(.*)")


def score(arch: Mapping[str, Any]) -> dict[str, Any]:
    """Score most depths, and go wrong with one."""
    if arch["depth"] == 3:
        raise ArithmeticError("three is no depth")
    return {"accuracy": arch["depth"] / 10, "remark": f"of depth {arch['depth']}"}


def search(out: Path, **more: Any) -> raynas.Result:
    usual: dict[str, Any] = {"evaluator": score, "trials": 6, "ray": INLINE}
    return raynas.search(SPACE, "grid", out=str(out), **usual | more)


def log_of(out: str | Path) -> str:
    return Path(out, "logs", "run.log").read_text()


def entries(out: str | Path, *kinds: str) -> list[str]:
    """Return the texts of a log's entries of these kinds."""
    found = [ENTRY.fullmatch(line) for line in log_of(out).splitlines()]
    return [entry[2] for entry in found if entry is not None and entry[1] in kinds]


def test_a_search_is_told_from_its_configuration_to_its_best(tmp_path: Path) -> None:
    result = search(tmp_path)
    (config,) = entries(tmp_path, "config")
    assert json.loads(config) == result.config.model_dump(mode="json")
    (begin,) = entries(tmp_path, "begin")
    for name, release in result.config.versions.items():
        assert f"{name} {release}" in begin
    assert "starting the evaluator" in entries(tmp_path, "phase")
    told = entries(tmp_path, "trial")
    assert len(told) == 6
    for line, row in zip(told, result.trials.to_dict("records"), strict=True):
        assert line.startswith(f"{row['trial']} {row['arch_key']} {row['status']}")
        if row["status"] == "completed":
            assert f"accuracy={row['accuracy']:.6g} remark={row['remark']}" in line
    assert entries(tmp_path, "best")[-1].endswith("accuracy=0.6")
    assert entries(tmp_path, "arch") == ['{"depth":6}']
    (end,) = entries(tmp_path, "end")
    assert end.endswith("accuracy=0.6")
    assert not (tmp_path / "tracking.json").exists()


def test_a_failed_trial_has_its_traceback(tmp_path: Path) -> None:
    search(tmp_path)
    log = log_of(tmp_path)
    assert "\n      File " in log
    assert 'raise ArithmeticError("three is no depth")' in log
    assert "\n    ArithmeticError: three is no depth\n" in log


def test_going_on_adds_to_the_log(tmp_path: Path) -> None:
    search(tmp_path, trials=3)
    before = log_of(tmp_path)
    search(tmp_path, resume=True)
    assert log_of(tmp_path).startswith(before)
    numbers = [line.split()[0] for line in entries(tmp_path, "trial")]
    assert numbers == ["0", "1", "2", "3", "4", "5"]
    assert len(entries(tmp_path, "begin")) == 2


def test_a_run_that_ends_in_an_error_says_where(tmp_path: Path) -> None:
    with pytest.raises(SearchFailed):
        search(tmp_path, evaluator=lambda arch: {"speed": float(arch["depth"])})
    assert entries(tmp_path, "failed")[0].startswith("SearchFailed: ")
    assert "Traceback" in log_of(tmp_path).split("failed")[-1]


def test_a_run_that_is_stopped_says_so(tmp_path: Path) -> None:
    def impatient(arch: Any) -> float:
        raise KeyboardInterrupt(arch)

    with pytest.raises(Interrupted):
        search(tmp_path, evaluator=impatient)
    assert len(entries(tmp_path, "stopped")) == 1
    assert not entries(tmp_path, "end", "failed")


def test_warnings_are_shown_and_logged(tmp_path: Path) -> None:
    def warning(arch: Any) -> float:
        warnings.warn(f"depth {arch['depth']} is odd", stacklevel=1)
        return 0.5

    shows = warnings.showwarning
    with pytest.warns(UserWarning, match="is odd") as shown:
        search(tmp_path, evaluator=warning)
    assert len(shown) == 6
    told = entries(tmp_path, "warning")
    assert sorted(told)[0].startswith("UserWarning: depth 1 is odd (")
    assert len(told) == 6
    assert warnings.showwarning is shows


def test_nothing_is_logged_before_a_folder_is_claimed(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        search(tmp_path / "run", evaluator="nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a supernet that SGAS has trained for three epochs, deciding after two."""
    out = tmp_path_factory.mktemp("training")
    options = {"first_decision": 1, "decide_every": 1, "batch_size": 256}
    raynas.train_supernet(ToyNet, "sgas", epochs=3, out=str(out), ray=INLINE, options=options)
    return out


def test_a_training_is_told_with_all_its_columns(training: Path) -> None:
    history = read_history(str(training)).to_pylist()
    told = entries(training, "epoch")
    assert len(told) == len(history) == 3
    for at, (line, row) in enumerate(zip(told, history, strict=True)):
        assert line.startswith(f"supernet {at + 1}/3 ")
        for name, value in row.items():
            if name not in ("epoch", "notes", "algo"):
                assert f"{name}={value:.6g}" in line
    (config,) = entries(training, "config")
    assert json.loads(config)["supernet"]["options"]["epochs"] == 3


def test_sgas_says_its_candidate_flags_and_each_decision(training: Path) -> None:
    history = read_history(str(training)).to_pylist()
    notes = entries(training, "note")
    flags = [note for note in notes if "candidate flags" in note]
    assert len(flags) == 3
    for note, row in zip(flags, history, strict=True):
        shown = re.search(r"candidate flags ([01 ]+) \((\d) of 3 undecided\)", note)
        assert shown is not None
        assert shown[1].split().count("1") == int(shown[2]) == row["undecided"]
    assert [row["undecided"] for row in history] == [3, 2, 1]
    decided = [note for note in notes if note.startswith("decided ")]
    assert len(decided) == 2
    for note, row in zip(decided, history[1:], strict=True):
        label, option, worth = re.findall(r"decided (\S+) = (\S+), of score (\S+) ", note)[0]
        assert row[f"alpha.{label}.{option}"] == 1.0
        assert f"{row[f'score.{label}']:.3f}" == worth
        assert row["notes"].splitlines()[0] == note


def test_a_retraining_has_its_own_log(tmp_path: Path) -> None:
    trained = raynas.retrain(
        dict(space_of(ToyNet()).sample(np.random.default_rng(0))),
        space=ToyNet,
        epochs=2,
        out=str(tmp_path),
        ray=INLINE,
    )
    told = entries(tmp_path, "epoch")
    assert [line.split()[:2] for line in told] == [["network", "1/2"], ["network", "2/2"]]
    (end,) = entries(tmp_path, "end")
    assert f"test_accuracy={trained.metrics['test_accuracy']:.6g}" in end


def test_a_disk_error_is_raised(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    with pytest.raises(OSError, match="logs cannot be written to"):
        search(tmp_path)


def test_entries_have_a_time_and_further_lines_are_indented(tmp_path: Path) -> None:
    log = RunLog(now=lambda: datetime(2024, 5, 6, 7, 8, 9, 123456, UTC))
    log.phase("before")
    log.begin(RunInfo(kind="search", out=str(tmp_path), config={"seed": 1}))
    log.phase("one\ntwo")
    log.close()
    lines = log_of(tmp_path).splitlines()
    assert lines[0] == "2024-05-06T07:08:09.123Z phase    before"
    assert lines[-2:] == ["2024-05-06T07:08:09.123Z phase    one", "    two"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let URIs of ``toy://`` be a store that takes files whole; what is written is remembered."""
    written: list[str] = []
    below = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    class Stores:
        """Finds file systems."""

        @staticmethod
        def from_uri(uri: str) -> tuple[fs.FileSystem, str]:
            """Return the store and the path in it."""
            return below, uri.removeprefix("toy://")

    write = Folder.write

    def remembered(folder: Folder, name: str, text: str) -> None:
        written.append(f"{folder.path}/{name}")
        write(folder, name, text)

    monkeypatch.setattr(fs, "FileSystem", Stores)
    monkeypatch.setattr(Folder, "write", remembered)
    return written


def test_an_object_store_has_the_whole_log_too(tmp_path: Path, store: list[str]) -> None:
    for text in ("first\n", "second\n"):
        log = TextLog(Folder("toy://run/logs"), "run.log")
        for _ in range(50):
            log.add(text)
        log.flush()
        log.flush()
    assert log_of(tmp_path / "run") == "first\n" * 50 + "second\n" * 50
    assert store == ["toy://run/logs/run.log"] * 2, "a file is not written for every line"


def test_an_object_store_has_it_before_the_end(
    tmp_path: Path, store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_log, "REWRITE_S", 0.0)
    log = TextLog(Folder("toy://run/logs"), "run.log")
    log.add("first\n")
    assert log_of(tmp_path / "run") == "first\n"
    assert len(store) == 1
