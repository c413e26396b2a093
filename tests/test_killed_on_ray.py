"""Drivers that are killed on a Ray which outlives them, and a Ray that dies below its driver."""

from __future__ import annotations

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
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from raynas.cluster.lost_head import HeadWatch, is_there
from raynas.cluster.processes import Process, descendants
from raynas.storage.tables import read_trials
from tests.killed_runs import epochs, told

REPO = Path(__file__).parent.parent
HANGS_S = 300
KILLS = 20
PHASES = ("supernet", "search", "verify", "retrain")
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux' /proc")

HEAD = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

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
    time.sleep(0.4)
    return {"accuracy": (int(arch.key, 16) % 1000) / 1000}

def begin(phase):
    print(phase, flush=True)

if sys.argv[2] == "search":
    space = raynas.ArchSpace.of(x=list(range(900)))
    raynas.search(space, "random", evaluator=score, trials=600, out=str(place / "run"), resume=True,
                  ray=RAY)
    sys.exit()
begin("supernet")
raynas.train_supernet(ToyNet, epochs=3, out=str(place / "supernet"), resume=True, ray=RAY)
begin("search")
result = raynas.search(ToyNet, "random", evaluator=score, data="digits", trials=18,
                       out=str(place / "run"), resume=True, ray=RAY)
begin("verify")
result.verify(1, 1, options={"epochs": 1}, ray=RAY)
begin("retrain")
raynas.retrain(result, epochs=6, out=str(place / "retrained"), resume=True, ray=RAY)
begin("end")
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
        self._said = place / "said.txt"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(place), what],
                env={**environment(temporary), **variables},
                stdout=said,
                stderr=subprocess.PIPE,
                text=True,
            )

    def reaches(self, phase: str) -> bool:
        """Wait until a phase begins; return False where the driver ends before, as it should."""
        deadline = time.monotonic() + HANGS_S
        while phase not in self._said.read_text().split():
            if self.process.poll() is not None:
                return not self.ends_within(0.0)
            assert time.monotonic() < deadline, f"{phase} did not begin"
            time.sleep(0.02)
        return True

    def ends_within(self, limit_s: float) -> bool:
        """Return whether it ends by itself, as it should, before the limit."""
        try:
            assert self.process.wait(limit_s) == 0, self.process.communicate()[1]
        except subprocess.TimeoutExpired:
            return False
        self.process.communicate()
        return True

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


def environment(temporary: Path) -> dict[str, str]:
    """Return that of this process, with a place for temporary files."""
    names = {"PYTHONPATH": str(REPO), "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}
    return {**os.environ, **names}


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


@contextmanager
def head(temporary: Path) -> Iterator[tuple[dict[str, str], int]]:
    """Give the variables that name a Ray, and the process that has started it."""
    variables = {"RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD],
        env={**environment(temporary), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield variables | {"RAY_ADDRESS": process.stdout.readline().strip()}, process.pid


def durations_s(driver: Driver) -> dict[str, float]:
    """Return how long each phase of a driver lasts that nobody disturbs."""
    began_s = []
    for phase in (*PHASES, "end"):
        assert driver.reaches(phase), driver.process.communicate()[1]
        began_s.append(time.monotonic())
    assert driver.ends_within(HANGS_S)
    lasts_s = (end_s - begin_s for begin_s, end_s in pairwise(began_s))
    return dict(zip(PHASES, lasts_s, strict=True))


@LINUX
@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_a_driver_is_killed_at_20_random_instants(tmp_path: Path, temporary: Path) -> None:
    """Five in each phase, connecting and starting included, of a Ray that outlives all of them."""
    with head(temporary) as (variables, pid):
        at_rest = descendants([pid])
        lasts_s = durations_s(Driver(made(tmp_path / "whole"), temporary, **variables))
        expected = outcome(tmp_path / "whole")
        chance, kills, place = random.Random(0), 0, made(tmp_path / "0")
        before: dict[str, int] = {}
        while kills < KILLS or place.exists():
            driver = Driver(place, temporary, **variables)
            phase = PHASES[min(kills, KILLS - 1) * len(PHASES) // KILLS]
            limit_s = chance.uniform(0.0, lasts_s[phase]) if kills < KILLS else HANGS_S
            if driver.reaches(phase) and not driver.ends_within(limit_s):
                driver.kill()
                kills += 1
                before |= counts_of_told(place)
                continue
            assert outcome(place) == expected
            assert before.items() <= counts_of_told(place).items(), "evaluated again, though told"
            shutil.rmtree(place)
            if kills < KILLS:
                place, before = made(tmp_path / str(kills)), {}
        wait_for_the_end(descendants([pid]) - at_rest)
        assert files_of_runs(temporary) == []
    wait_for_the_end(at_rest)
    assert left_in(temporary) == ["ray"], "the folder of that Ray"


TWO_RUNS = """
import ray
from raynas.cluster.connect import connected, connecting
from raynas.core.config import RayConfig
for _ in range(4):
    with connecting(RayConfig()):
        pass  # a run whose work is done ends before it is connected
    with connected(RayConfig()):
        assert len(ray.nodes()) == 1
"""


@LINUX
@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_a_run_that_needs_no_ray_leaves_the_next_connected(temporary: Path) -> None:
    """A driver that was killed late goes on through runs that have nothing left to do."""
    with head(temporary) as (variables, _):
        done = subprocess.run(
            [sys.executable, "-c", TWO_RUNS],
            env={**environment(temporary), **variables},
            capture_output=True,
            text=True,
            timeout=HANGS_S,
        )
    assert done.returncode == 0, done.stderr


def files_of_runs(temporary: Path) -> list[Path]:
    """Return what runs have left in the folder of the Ray that they used."""
    return [path for path in temporary.glob("ray/session_2*/raynas/*/**/*") if path.is_file()]


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
