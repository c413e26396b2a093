"""A driver listens on this machine only, and leaves no process behind when it is terminated."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from raynas.core.termination import TERMINATED

REPO = Path(__file__).parent.parent
HANGS_S = 120
LOOPBACK = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # the same, for IPv6
    "00000000000000000000000001000000",  # ::1
}
SCRIPT = """
import sys, time
import raynas

def slow(arch):
    time.sleep(0.1)
    return {"accuracy": float(arch["x"])}

space = raynas.ArchSpace.of(x=list(range(900)))
raynas.search(space, evaluator=slow, trials=800, out=sys.argv[1], ray={"num_cpus": 2})
"""


def processes() -> dict[int, tuple[int, str]]:
    """Return parent and name of every process that runs, as Linux tells."""
    known = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = entry.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        state, parent = tail.split()[:2]
        if state != "Z":
            known[int(head.split()[0])] = int(parent), head.partition("(")[2]
    return known


def below(pid: int) -> dict[int, str]:
    """Return the processes that one has started, and these, by name."""
    known, found, waiting = processes(), dict[int, str](), [pid]
    while waiting:
        above = waiting.pop()
        children = {own: name for own, (parent, name) in known.items() if parent == above}
        found |= children
        waiting += children
    return found


def listening(pids: Iterable[int]) -> dict[str, str]:
    """Return the addresses at which processes listen for TCP, by socket, as Linux writes them."""
    sockets = {}
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets[os.readlink(file)] = pid
            except FileNotFoundError:  # it has just been closed
                continue
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    listen = {f"socket:[{row[9]}]": row[1].partition(":")[0] for row in rows if row[3] == "0A"}
    return {name: address for name, address in listen.items() if name in sockets}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path: Linux limits those of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.xdist_group("ray")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux' /proc")
def test_nothing_outlives_a_terminated_driver(tmp_path: Path, temporary: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    short = str(temporary)
    environment = {**os.environ, "PYTHONPATH": str(REPO), "TMPDIR": short, "RAY_TMPDIR": short}
    driver = subprocess.Popen(
        [sys.executable, str(script), str(out)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + HANGS_S
    while not any((out / "trials").glob("part-*.parquet")):
        assert time.monotonic() < deadline, "no trial was told"
        time.sleep(0.1)
    started = below(driver.pid)
    assert "raylet" in started.values()
    sockets = listening([driver.pid, *started])
    assert len(sockets) > 3  # Ray's servers are among them
    assert set(sockets.values()) <= LOOPBACK, "Ray's ports run code for whoever connects"
    driver.send_signal(signal.SIGTERM)
    _, err = driver.communicate(timeout=HANGS_S)
    assert driver.returncode == TERMINATED
    assert "stopped by SIGTERM after " in err
    assert "resume=True" in err
    assert "SIGTERM received" not in err, "Ray's core took it for a crash"
    while (alive := started.keys() & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive
    assert list(temporary.iterdir()) == []
