"""A driver that is killed, at whatever instant: going on ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray._private import worker

from raynas.cluster import worker_logs
from raynas.cluster.processes import descendants, end
from raynas.core.temporary import temporary_folder

REPO = Path(__file__).parent.parent
HANGS_S = 300
SCENARIOS = ("search", "ask_tell", "supernet", "retrain", "verify", "final")
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux' /proc")


# --- without Ray: every change of a run's folder is an instant to be killed at --------------------


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ends a process at a chosen change of a folder: before it, or in mid-write."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc)")
    built = tmp_path_factory.mktemp("library") / "kill_at.so"
    source = REPO / "tests" / "fixtures" / "kill_at.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built


def killed(library: Path, root: Path, *scenarios: str) -> list[dict[str, Any]]:
    """Return what came of scenarios, whose runs were killed and have gone on."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "TMPDIR": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_runs", str(root / "runs"), *scenarios],
        cwd=REPO,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(library: Path, tmp_path: Path) -> None:
    some = ("search:12:50", "ask_tell:9:120", "retrain:70:40")
    for found in killed(library, tmp_path, *some):
        assert found["kills"] > 1
        assert found["again"] > 0
        assert found["wrong"] == {}, found["name"]


@pytest.mark.full
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_and_so_it_does_at_every_change_of_its_folder(
    scenario: str, library: Path, tmp_path: Path
) -> None:
    (found,) = killed(library, tmp_path, f"{scenario}:1:1")
    assert found["kills"] == found["changes"] > 30
    assert found["wrong"] == {}


# --- the parts ------------------------------------------------------------------------------------

ALONE = """
import os, sys, time
from pathlib import Path
from raynas.core.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


def test_a_temporary_folder_of_a_killed_process_goes_with_the_next(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    with temporary_folder(tmp_path) as own:
        assert (folder / "file").exists(), "its process lives"
        assert own != folder
    process.kill()
    process.communicate()
    assert folder.exists()
    with temporary_folder(tmp_path) as own:
        assert {file.name for file in tmp_path.iterdir()} == {own.name, f"{own.name}.lock"}
        assert list(own.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_processes_end_with_all_that_they_have_started() -> None:
    stubborn = "trap '' TERM; sleep 600 & echo; wait; sleep 600"
    with subprocess.Popen(["sh", "-c", stubborn], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        found = descendants([shell.pid])
        assert len(found) == 2
        assert {number for number, _ in found} > {shell.pid}
        end({(shell.pid, "another process of this number")})
        assert shell.poll() is None
        end(found)
        assert shell.wait(HANGS_S) == -signal.SIGKILL, "it ignores SIGTERM"
    assert not found & descendants(number for number, _ in found)


def test_what_ray_prints_goes_to_the_log_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_logs, "LAST_S", 0.0)
    before = worker.print_to_stdstream
    with worker_logs.diverted():
        say = worker.print_to_stdstream
        say({"lines": ["too early"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
        with worker_logs.kept_in(str(tmp_path)):
            say({"lines": ["a worker\ndied"], "pid": "raylet"}, ignore_prefix=False)
            say({"lines": ["hello"], "pid": 7, "ip": "127.0.0.1"}, ignore_prefix=False)
            say({"lines": ["a table"], "pid": "autoscaler"}, ignore_prefix=False)
    assert worker.print_to_stdstream is before
    lines = (tmp_path / "logs" / "workers.log").read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "ray/raylet a worker",
        "ray/raylet died",
        "127.0.0.1/7 hello",
    ]
    assert capsys.readouterr() == ("", "")
