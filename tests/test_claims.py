"""One run at a time writes to a folder of an object store, also where several begin at once."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import raynas
from raynas.cli.exit_codes import FAILED
from raynas.core.errors import FolderInUse
from raynas.storage import claims
from raynas.storage.claims import PREFIX
from raynas.storage.run_folder import Folder
from raynas.storage.run_lock import RunLock
from tests.inline import INLINE
from tests.object_store import KEYS, Server, serving
from tests.toynet import ToyNet

ROOT = Path(__file__).parent.parent
SPACE = raynas.ArchSpace.of(x=list(range(9)), y=list(range(9)))
HANGS_S = 120
ME = rf"\(search, pid {os.getpid()} on {platform.node()}\)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def out(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in a bucket, which is not there yet."""
    for name, value in (KEYS | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, value)
    return server.uri(uuid.uuid4().hex)


def score(arch: raynas.Arch) -> float:
    return float(arch["x"])  # type: ignore[arg-type]


def searched(out: str, evaluator: Any = score, **given: Any) -> raynas.Result:
    return raynas.search(SPACE, "random", evaluator=evaluator, out=out, ray=INLINE, **given)


def claims_in(out: str) -> list[str]:
    return [name for name in Folder(out).names() if name.startswith(PREFIX)]


def test_a_search_keeps_all_others_out_from_its_start_on(out: str) -> None:
    said: list[str] = []

    def meanwhile(arch: raynas.Arch) -> float:
        given: dict[str, Any] = {"space": raynas.ModelSpace(ToyNet), "out": out, "ray": INLINE}
        arch_of_toynet = {"first": "k3", "second": 0, "third": 0}
        for write in (
            lambda: searched(out),
            lambda: searched(out, resume=True),
            lambda: raynas.train_supernet(**given),
            lambda: raynas.retrain(arch_of_toynet, **given),
        ):
            with pytest.raises(FolderInUse, match=ME) as caught:
                write()
            said.append(str(caught.value))
        return score(arch)

    table = searched(out, meanwhile, trials=1).trials
    assert len(said) == 4
    assert all(text.startswith(f"{out} is being written to by another process") for text in said)
    assert len(table) == 1
    assert claims_in(out) == [], "nothing is left of it"
    assert len(searched(out, meanwhile, trials=2, resume=True).trials) == 2


@pytest.mark.usefixtures("out")
def test_of_those_that_ask_at_once_one_holds_the_folder(server: Server) -> None:
    many, rounds = 4, 5
    barrier = threading.Barrier(many)

    def ask(place: str) -> bool:
        with RunLock("search") as lock:
            barrier.wait(HANGS_S)
            try:
                lock.take(place)
            except FolderInUse:
                return False
            finally:
                barrier.wait(HANGS_S)  # it is held until all have asked
            return True

    with ThreadPoolExecutor(many) as pool:
        for number in range(rounds):
            place = server.uri(f"{uuid.uuid4().hex}/{number}")
            assert sorted(pool.map(ask, [place] * many)) == [False] * (many - 1) + [True]
            assert claims_in(place) == []


HOLDS = """
import sys, time
from raynas.storage.run_lock import RunLock
with RunLock("search") as lock:
    lock.take(sys.argv[1])
    print("taken", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def killed(out: str) -> tuple[str, str]:
    """A folder that was held by a process which was killed, and the name of its claim."""
    command = [sys.executable, "-c", HOLDS, out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "taken\n"
        with pytest.raises(FolderInUse, match=rf"\(search, pid {run.pid} on "):
            searched(out, trials=3)
        run.send_signal(signal.SIGKILL)
        run.wait(HANGS_S)
    (name,) = claims_in(out)
    return out, name


def test_what_a_killed_run_held_is_free_at_once_on_its_machine(killed: tuple[str, str]) -> None:
    out, _ = killed
    assert len(searched(out, trials=3).trials) == 3
    assert claims_in(out) == []


@pytest.mark.parametrize("renewed", [False, True])
def test_another_machine_holds_it_as_long_as_it_renews_its_claim(
    killed: tuple[str, str], renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, name = killed
    monkeypatch.setattr(claims, "GONE_S", 3.0)
    folder = Folder(out)
    claim = json.loads(folder.read(name)) | {"machine": "of somebody else", "host": "elsewhere"}
    folder.write(name, json.dumps(claim))
    over = threading.Event()

    def renew() -> None:
        count = 1
        while not over.wait(0.2):
            count += 1
            folder.write(name, json.dumps(claim | {"renewed": count}))

    thread = threading.Thread(target=renew)
    if not renewed:
        assert len(searched(out, trials=3).trials) == 3
        assert claims_in(out) == []
        return
    thread.start()
    try:
        with pytest.raises(FolderInUse, match=r"\(search, pid \d+ on elsewhere\)"):
            searched(out, trials=3)
    finally:
        over.set()
        thread.join()
    assert claims_in(out) == [name], "theirs stays"


def test_a_claim_is_renewed_while_it_is_held_and_no_longer(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEW_S", 0.05)
    folder = Folder(out)
    with RunLock("search") as lock:
        lock.take(out)
        (name,) = claims_in(out)
        counts: set[int] = set()
        while len(counts) < 3:
            counts.add(json.loads(folder.read(name))["renewed"])
        folder.remove(name)  # by who has taken this process for gone
        renewal = lock._held[out]._renewal  # type: ignore[union-attr]
    renewal.join(HANGS_S)
    assert not renewal.is_alive()
    assert claims_in(out) == []


DRIVER = """
import sys
from raynas.cli.exit_codes import exit_code
from tests.test_claims import searched
try:
    searched(sys.argv[1], trials=40)
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(exit_code(error))
"""


@pytest.mark.full
def test_of_two_drivers_that_start_at_the_same_time_one_is_told_of_the_other(out: str) -> None:
    """They begin with the same folder, which is empty: before, both did, until a part was there."""
    command = [sys.executable, "-c", DRIVER, out]
    drivers = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    said = {driver.communicate(timeout=HANGS_S)[1]: driver.returncode for driver in drivers}
    assert sorted(said.values()) == [0, FAILED]
    (refusal,) = (text for text, code in said.items() if code == FAILED)
    assert f"{out} is being written to by another process (search, pid " in refusal
    assert sorted(raynas.load(out).trials["trial"]) == list(range(40))
    assert claims_in(out) == []
