"""What evaluators do to their process: each fault fails one row by name, and spares the others."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raynas
from raynas.cluster.training_group import training_group
from raynas.core.evaluator import Evaluator
from raynas.core.progress import Progress
from raynas.evaluators.spec import EvaluatorSpec, Worker
from tests.inline import INLINE
from tests.toynet import ToyNet

ENDED = "the evaluating process died in each of 3 attempts: "
KILLED = ENDED + "the process was ended by SIGKILL, perhaps for want of memory"
HELD: list[Any] = []


class Lines(Progress):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)


def search(
    out: Path, faults: dict[str, Callable[[], object]], **options: Any
) -> tuple[dict[str, dict[str, Any]], list[str], dict[str, int]]:
    """Return rows by fault, what was noted, and how often each was evaluated.

    As many architectures have no fault.
    """
    kinds = [*faults, *(f"good{number}" for number in range(len(faults)))]
    out.mkdir(exist_ok=True)
    log, shown = out / "log", Lines()

    def evaluate(arch: raynas.Arch) -> object:
        with open(log, "a") as file:
            file.write(f"{arch['kind']}\n")
        return faults.get(str(arch["kind"]), lambda: len(str(arch["kind"])))()

    result = raynas.search(
        raynas.ArchSpace.of(kind=kinds),
        "random",
        evaluator=evaluate,
        trials=len(kinds),
        out=str(out / "run"),
        ray={"workers": 2, **options},
        progress=shown,
    )
    rows: Any = result.trials.set_index("choice.kind").to_dict("index")
    assert set(rows) == set(kinds)
    for kind in kinds[len(faults) :]:
        assert rows[kind]["accuracy"] == float(len(kind))
    counts = log.read_text().split()
    return rows, shown.lines, {kind: counts.count(kind) for kind in kinds}


def leave() -> object:
    sys.exit(3)


def interrupt() -> object:
    raise KeyboardInterrupt("own")


def shout() -> object:
    raise BaseException("own")


def close_output() -> object:
    sys.stdout.close()
    return 1


def fork() -> object:
    if os.fork() == 0:
        sys.exit(0)
    return 2


def print_much() -> object:
    sys.stderr.write("x" * 79 + "\n")
    sys.stderr.write(("y" * 999 + "\n") * 2_000)
    return 3


def change_process() -> object:
    os.chdir("/")
    os.environ["TZ"] = "Asia/Tokyo"
    torch.set_num_threads(2)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    return 4


def outlive() -> object:
    subprocess.Popen(["sleep", "20"])
    return 5


@pytest.mark.usefixtures("local_ray")
def test_what_evaluators_do_fails_their_own_row_by_name(tmp_path: Path) -> None:
    faults: dict[str, Callable[[], object]] = {
        "exits": leave,
        "interrupts": interrupt,
        "shouts": shout,
        "nothing": lambda: None,
        "nan": lambda: float("nan"),
        "generator": lambda: (value for value in (1.0, 2.0)),
        "wrong_keys": lambda: {"acuracy": 1.0},
        "unpicklable": lambda: {"accuracy": 1.0, "lock": sys.stdin},
        "surrogates": lambda: {"accuracy": 1.0, "where": "caf\udce9"},
        "needs_grad": lambda: torch.ones((), requires_grad=True),
        "closes": close_output,
        "forks": fork,
        "prints": print_much,
        "changes": change_process,
        "outlives": outlive,
        "crashes": lambda: ctypes.string_at(0),
    }
    rows, noted, counts = search(tmp_path, faults)
    failed = {kind: row["error"] for kind, row in rows.items() if row["status"] == "failed"}
    for kind in ("exits", "interrupts", "shouts"):
        failed[kind] = failed[kind].partition(", line ")[0]
    crash = failed.pop("crashes")
    assert crash.startswith(f"{ENDED}the process was ended by SIGSEGV (in string_at, line ")
    wanted = "the evaluator must return a dict from metric name to number"
    for kind in ("nothing", "generator"):
        assert wanted in failed.pop(kind)
    assert "acuracy" in failed.pop("wrong_keys")
    assert failed == {
        "exits": "SystemExit: 3 (in leave",
        "interrupts": "KeyboardInterrupt: own (in interrupt",
        "shouts": "BaseException: own (in shout",
        "nan": "ValueError: metric 'accuracy' is nan",
    }
    assert rows["surrogates"]["where"] == "caf\\udce9"
    assert rows["unpicklable"]["accuracy"] == 1.0
    sound = ("needs_grad", "closes", "forks", "prints", "changes", "outlives")
    assert [rows[kind]["accuracy"] for kind in sound] == [1.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert counts["crashes"] <= 3
    assert len(noted) == 3, "a line a death"
    assert all("was lost (SIGSEGV) while evaluating " in line for line in noted)
    assert noted[-1].endswith("; it has failed")
    log = (tmp_path / "run" / "logs" / "run.log").read_text()
    assert log.count("was lost (SIGSEGV)") == 3


def grow() -> object:
    kept = []
    for _ in range(400):  # 8 GB at most
        kept.append(np.ones(20 * 2**17))
        time.sleep(0.01)
    return 1


def in_children() -> object:
    children = []
    for _ in range(2):  # neither is beyond the limit alone
        child = os.fork()
        if child == 0:
            try:
                HELD.append(np.ones(90 * 2**20))  # 0.75 GB
                time.sleep(60)
            finally:
                os._exit(1)
        children.append(child)
    if any([os.waitpid(child, 0)[1] for child in children]):
        raise MemoryError("a child has none left, after what others have leaked")
    return 1


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    "faults",
    [
        {"at_once": lambda: np.ones(10**9)},
        pytest.param({"slowly": grow, "in_children": in_children}, marks=pytest.mark.full),
    ],
    ids=" ".join,
)
def test_what_takes_too_much_memory_is_told_by_name(
    faults: dict[str, Callable[[], object]], tmp_path: Path
) -> None:
    rows, noted, counts = search(tmp_path, faults, memory_gb=1.5, batch=4, workers=1)
    failed = {kind: row["error"] for kind, row in rows.items() if row["status"] == "failed"}
    assert failed == dict.fromkeys(faults, "the evaluation took more than 1.5 GB (ray.memory_gb)")
    assert [counts[kind] for kind in faults] == [1] * len(faults), "none is tried again"
    assert bool(noted) == ("in_children" in faults), "the children were ended from outside"
    assert all(" was lost (memory) while evaluating " in line for line in noted)


def test_memory_is_limited_in_processes_of_their_own() -> None:
    with pytest.raises(ValueError, match=r"inline evaluates .* leave out memory_gb=2\.0"):
        raynas.RayConfig(inline=True, workers=1, batch=1, memory_gb=2)
    with pytest.raises(ValueError, match="memory_gb: input should be greater than 0"):
        raynas.search(raynas.ArchSpace.of(depth=[1]), evaluator=len, ray={"memory_gb": 0})
    spec = EvaluatorSpec(name="trains", metrics=("accuracy",), make=Broken(), epochs=1)
    config = raynas.RayConfig(train_workers=2, memory_gb=2)
    with pytest.raises(ValueError, match=BOTH):
        training_group(spec, config, "nowhere")


class Phases(Progress):
    """Keeps the phases that a run comes to."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def phase(self, text: str) -> None:
        """Keep it."""
        self.seen.append(text)


BOTH = r"memory_gb=2 limits a worker.*train_workers=2 processes.*leave out either"


def test_a_limit_that_cannot_be_kept_is_refused_before_anything_starts(tmp_path: Path) -> None:
    out, phases = tmp_path / "run", Phases()
    ray: Any = {"train_workers": 2, "memory_gb": 2}
    given: Any = {"space": ToyNet, "data": "digits", "out": str(out), "progress": phases}
    given["evaluator"] = ["standalone", {"epochs": 1}]
    with pytest.raises(ValueError, match=BOTH):
        raynas.search(**given, trials=1, ray=ray)
    assert not out.exists()
    given |= {"evaluator": "nwot", "objectives": {"nwot": "max"}}
    given |= {"space": raynas.ModelSpace(ToyNet)}
    result = raynas.search(**given, algo="random", trials=2, ray=INLINE)
    del phases.seen[:]
    with pytest.raises(ValueError, match=BOTH):
        result.verify(top=1, seeds=1, options={"epochs": 1}, ray=ray, progress=phases)
    assert not (out / "verify").exists()
    assert phases.seen == [], "not even Ray"


class Broken:
    """Makes no evaluator: nobody is to ask for one."""

    def __call__(self, worker: Worker) -> Evaluator:
        """Raise."""
        raise AssertionError(worker)


def raise_signal(number: int) -> object:
    os.kill(os.getpid(), number)
    time.sleep(60)
    return 1


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_each_end_of_a_process_is_named(tmp_path: Path) -> None:
    faults: dict[str, Callable[[], object]] = {
        name: partial(raise_signal, number)
        for name, number in signal.Signals.__members__.items()
        if name in ("SIGKILL", "SIGTERM", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV")
    }
    faults["code"] = lambda: os._exit(7)
    rows, noted, _ = search(tmp_path, faults, batch=1)
    for name in faults:
        error = rows[name]["error"]
        if name == "SIGKILL":
            assert error == KILLED
        elif name == "code":
            assert error == f"{ENDED}the process ended itself with exit code 7"
        else:
            assert error.startswith(f"{ENDED}the process was ended by {name}")
    assert len(noted) == 3 * len(faults)


@pytest.mark.full
@pytest.mark.usefixtures("local_ray")
def test_children_are_counted_and_what_leaks_spares_the_next(tmp_path: Path) -> None:
    def leak() -> object:
        HELD.append(np.ones(40 * 2**17 * 8))  # 335 MB
        return len("leak")

    def leak_files() -> object:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (2_000, hard))
        HELD.extend(os.pipe() for _ in range(2_000))
        return 1

    faults: dict[str, Callable[[], object]] = {"children": in_children}
    faults |= {f"leak{number}": leak for number in range(8)}
    rows, _, _ = search(tmp_path / "memory", faults, memory_gb=1.5, batch=1, workers=1)
    failed = {kind: row["error"] for kind, row in rows.items() if row["status"] == "failed"}
    assert failed == {"children": "the evaluation took more than 1.5 GB (ray.memory_gb)"}
    rows, _, _ = search(tmp_path / "files", {"files": leak_files}, batch=1, workers=1)
    assert rows["files"]["error"] == f"{ENDED}the process had no file descriptors left"
