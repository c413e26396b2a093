"""A cable that is pulled in the middle of a search, and plugged in again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import raynas
from tests.machines import Machine, machines, require_machines

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).parent.parent
RAY = str(Path(sys.prefix) / "bin" / "ray")
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
ENVIRONMENT |= {"RAY_raylet_start_wait_time_s": "300"}  # on a machine that is busy
CUT_S = 20
TRIALS = 60
SEARCH = f"""
import time
import raynas

def slow(arch):
    time.sleep(1.0)
    return float(arch["x"])

config = raynas.RayConfig(address="auto", workers=2, batch=1)
space = raynas.ArchSpace.of(x=list(range(1000)))
raynas.search(space, "random", evaluator=slow, trials={TRIALS}, out="run", ray=config)
"""


@pytest.fixture
def nodes() -> Iterator[list[Machine]]:
    """A head and another node, of one core each; the driver runs on the head."""
    require_machines()
    with machines("head", "other") as (head, other):
        small = ["--num-cpus=1", "--object-store-memory=200000000", "--disable-usage-stats"]
        start = [RAY, "start", *small]
        head.run(
            *start, "--head", "--port=6379", f"--node-ip-address={head.address}", **ENVIRONMENT
        )
        joined = [f"--address={head.address}:6379", f"--node-ip-address={other.address}"]
        other.run(*start, *joined, **ENVIRONMENT)
        yield [head, other]


def test_a_search_outlives_a_cut_of_the_network(nodes: list[Machine]) -> None:
    head, other = nodes
    driver = subprocess.Popen(head.command(sys.executable, "-c", SEARCH, **ENVIRONMENT))
    run = head.home / "run"
    wait_until(lambda: seen_on(run) == {"head", "other"}, driver)
    other.connect(plugged_in=False)
    time.sleep(CUT_S)
    before = len(raynas.load(str(run)).trials)
    other.connect(plugged_in=True)
    assert driver.wait(timeout=1800) == 0
    trials = raynas.load(str(run)).trials
    assert before < TRIALS
    assert len(trials) == TRIALS
    assert trials["trial"].is_unique
    assert trials["arch_key"].is_unique
    assert trials["error"].isna().all()


def seen_on(run: Path) -> set[str]:
    """Return the machines that have evaluated something."""
    try:
        return set(raynas.load(str(run)).trials["node"])
    except (OSError, ValueError):  # not begun yet
        return set()


def wait_until(condition: object, driver: subprocess.Popen[bytes], within_s: float = 900.0) -> None:
    deadline = time.monotonic() + within_s
    assert callable(condition)
    while not condition():
        assert driver.poll() is None, "the search ended before the cut"
        assert time.monotonic() < deadline
        time.sleep(0.5)
