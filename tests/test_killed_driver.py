"""A driver that is killed, at whatever instant: going on ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private import worker

from raynas.cluster import worker_logs
from raynas.cluster.lost_head import HeadWatch, is_there
from raynas.cluster.processes import Process, descendants, end
from raynas.core.temporary import temporary_folder
from raynas.storage.tables import read_trials
from tests.killed_runs import epochs, told

REPO = Path(__file__).parent.parent
HANGS_S = 300
KILLS = 20
SCENARIOS = ("search", "ask_tell", "supernet", "retrain", "verify")
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
        assert found["wrong"] == {}, found["name"]


@pytest.mark.full
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_and_so_it_does_at_every_change_of_its_folder(
    scenario: str, library: Path, tmp_path: Path
) -> None:
    (found,) = killed(library, tmp_path, f"{scenario}:1:1")
    assert found["kills"] == found["changes"] > 50
    assert found["wrong"] == {}


# --- with Ray -------------------------------------------------------------------------------------

DRIVER = """
import sys, time
from pathlib import Path
import raynas
from tests.toynet import ToyNet

place = Path(sys.argv[1])
RAY = {"num_cpus": 1, "workers": 1, "batch": 1}

def score(arch):
    with (place / "evaluated.txt").open("a") as file:
        file.write(f"{arch.key}\\n")
    time.sleep(0.1)
    return {"accuracy": (int(arch.key, 16) % 1000) / 1000}

if sys.argv[2] == "search":
    space = raynas.ArchSpace.of(x=list(range(900)))
    raynas.search(space, "random", evaluator=score, trials=600, out=str(place / "run"), resume=True,
                  ray=RAY)
    sys.exit()
raynas.train_supernet(ToyNet, epochs=3, out=str(place / "supernet"), resume=True, ray=RAY)
result = raynas.search(ToyNet, "random", evaluator=score, data="digits", trials=12,
                       out=str(place / "run"), resume=True, ray=RAY)
result.verify(1, 1, options={"epochs": 1}, ray=RAY)
raynas.retrain(result, epochs=3, out=str(place / "retrained"), resume=True, ray=RAY)
"""


class Driver:
    """A process that goes on with a run, and all that it starts.

    Args:
        place: for its folders.
        temporary: for what is temporary, of a short path: Linux limits those of sockets.
        what: it does.
        variables: of its environment.
    """

    def __init__(self, place: Path, temporary: Path, what: str = "all", **variables: str) -> None:
        names = {"PYTHONPATH": str(REPO), "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(place), what],
            env={**os.environ, **names, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_trials(self, out: Path) -> None:
        """Wait until a trial is told."""
        deadline = time.monotonic() + HANGS_S
        while not any((out / "trials").glob("part-*.parquet")):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, "no trial was told"
            time.sleep(0.1)

    def kill(self) -> set[Process]:
        """Kill it, and return what it has started, which ends by itself within a minute or two."""
        started = descendants([self.process.pid])
        self.process.kill()
        self.process.communicate()
        return started


def wait_for_the_end(processes: set[Process]) -> None:
    """Wait until processes are gone, as they are soon after their driver."""
    deadline = time.monotonic() + HANGS_S
    while left := processes & descendants(number for number, _ in processes):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path."""
    folder = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def outcome(place: Path) -> list[Any]:
    """Return what all phases of a driver have come to."""
    run = place / "run"
    tables = [told(run), *map(told, sorted(run.glob("verify/*/seed-*")))]
    histories = [epochs(place / "supernet"), epochs(place / "retrained")]
    metrics = (place / "retrained" / "metrics.json").read_text()
    return [*tables, *histories, metrics, (run / "best.json").read_text()]


def counts_of_told(place: Path) -> dict[str, int]:
    """Return how often each told architecture was evaluated."""
    log, out = place / "evaluated.txt", place / "run"
    counts = Counter(log.read_text().split() if log.exists() else [])
    return {key: counts[key] for key in read_trials(str(out))["arch_key"].to_pylist()}


@LINUX
@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_a_driver_of_ray_is_killed_at_20_random_instants(tmp_path: Path, temporary: Path) -> None:
    """Training, starting, searching, verifying and retraining, as far as each life comes."""
    driver = Driver(made(tmp_path / "whole"), temporary)
    assert driver.process.wait(HANGS_S) == 0, driver.process.communicate()[1]
    lasts_s, expected = time.monotonic() - driver.began_s, outcome(tmp_path / "whole")
    chance, kills, place = random.Random(0), 0, made(tmp_path / "0")
    before: dict[str, int] = {}
    while kills < KILLS or place.exists():
        driver = Driver(place, temporary)
        try:
            limit_s = chance.uniform(0.0, lasts_s) if kills < KILLS else HANGS_S
            assert driver.process.wait(limit_s) == 0, driver.process.communicate()[1]
        except subprocess.TimeoutExpired:
            wait_for_the_end(driver.kill())
            kills += 1
            before |= counts_of_told(place)
            continue
        assert outcome(place) == expected
        assert before.items() <= counts_of_told(place).items(), "evaluated again, though told"
        shutil.rmtree(place)
        if kills < KILLS:
            place, before = made(tmp_path / str(kills)), {}
    assert left_in(temporary) == []


def left_in(temporary: Path) -> list[str]:
    """Return what lies there, but for folders of wandb: Ray imports it where it is installed."""
    return [name for name in os.listdir(temporary) if "wandb" not in name]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@LINUX
@pytest.mark.full
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_lost_head_ends_a_run_in_a_sentence(victim: str, tmp_path: Path, temporary: Path) -> None:
    driver = Driver(tmp_path, temporary, "search")
    driver.wait_for_trials(tmp_path / "run")
    started = descendants([driver.process.pid])
    os.kill(the_one(victim, started), signal.SIGKILL)
    began_s = time.monotonic()
    _, err = driver.process.communicate(timeout=HANGS_S)
    assert time.monotonic() - began_s < 60, "that is when Ray gives up"
    assert driver.process.returncode == 1
    assert err.startswith(f"the Ray this run started is lost: its process {victim} has died; go on")
    assert len(err.splitlines()) == 1
    wait_for_the_end(started)
    assert left_in(temporary) == []
    there, before = told(tmp_path / "run"), counts_of_told(tmp_path)
    again = Driver(tmp_path, temporary, "search")
    while len(read_trials(str(tmp_path / "run"))) == len(there):
        assert again.process.poll() is None, again.process.communicate()[1]
        time.sleep(0.2)
    wait_for_the_end(again.kill())
    assert told(tmp_path / "run")[: len(there)] == there
    assert before.items() <= counts_of_told(tmp_path).items()


def the_one(name: str, processes: set[Process]) -> int:
    """Return the number of the process of this name."""
    (found,) = (
        number
        for number, _ in processes
        if Path(f"/proc/{number}/comm").read_text().strip() == name
    )
    return found


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


class Node:
    """What a watch looks at: addresses of servers of this process.

    Args:
        folder: for a socket.
    """

    def __init__(self, folder: Path) -> None:
        self.raylet_socket_name = str(folder / "raylet")
        self.head, self.raylet = socket.socket(), socket.socket(socket.AF_UNIX)
        self.head.bind(("127.0.0.1", 0))
        self.raylet.bind(self.raylet_socket_name)
        self.gcs_address = f"127.0.0.1:{self.head.getsockname()[1]}"
        for server in (self.head, self.raylet):
            server.listen()

    def close(self) -> None:
        """Close both."""
        for server in (self.head, self.raylet):
            server.close()


def test_a_head_is_lost_once_it_is_silent_for_long(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(temporary)
    monkeypatch.setattr("ray._private.worker._global_node", node)
    try:
        patient = HeadWatch(node.gcs_address, patience_s=600.0)
        hasty = HeadWatch(node.gcs_address, patience_s=-1.0)
        assert patient.lost() is None
        node.head.close()
        assert patient.lost() is None, "it may come back"
        assert hasty.lost() == "its head was silent for 0 s"
        node.raylet.close()
        monkeypatch.setattr("raynas.cluster.lost_head.LOCAL_S", -1.0)
        assert patient.lost() == "its process raylet on this machine has died"
    finally:
        node.close()


def test_a_process_that_is_too_busy_to_answer_is_there(temporary: Path) -> None:
    name = str(temporary / "busy")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        assert not is_there(socket.AF_UNIX, name), "nobody listens"
        server.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(name)
        assert is_there(socket.AF_UNIX, name)
        for one in waiting:
            one.close()
    assert not is_there(socket.AF_UNIX, str(temporary / "none"))


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
