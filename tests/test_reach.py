"""An address where no Ray answers is said soon, and in one sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from raynas.cluster.reach import check_reachable

HANGS_S = 120
SEARCH = """
import raynas
space = raynas.ArchSpace.of(x=[1, 2])
try:
    raynas.search(space, evaluator=lambda arch: {"accuracy": 1.0}, trials=1)
except ConnectionError as error:
    print(error)
"""


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of somebody who listens and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def closed() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_nobody_listens() -> None:
    address = closed()
    with pytest.raises(ConnectionError) as caught:
        check_reachable(address, "RAY_ADDRESS")
    assert str(caught.value).startswith(f"no Ray answers at {address} (RAY_ADDRESS): ")
    assert "ray start --head" in str(caught.value)


def test_a_host_without_an_address() -> None:
    with pytest.raises(
        ConnectionError, match=r"no Ray answers at ray://nowhere\.invalid:6379 \(address=\)"
    ):
        check_reachable("ray://nowhere.invalid:6379", "address=")


def test_what_listens_is_left_to_ray(mute: str) -> None:
    check_reachable(mute, "RAY_ADDRESS")
    check_reachable("auto", "RAY_ADDRESS")


def test_a_search_ends_where_nobody_answers(mute: str) -> None:
    """In a process of its own: Ray goes on trying in a thread."""
    environment = {**os.environ, "RAY_ADDRESS": mute, "RAY_AUTH_MODE": "disabled"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SEARCH], env=environment, capture_output=True, timeout=HANGS_S
    )
    assert done.returncode == 0, done.stderr
    assert f"no Ray answers at {mute} (RAY_ADDRESS)" in done.stdout.decode()
    assert "set RAY_AUTH_MODE=token" in done.stdout.decode()
    assert time.monotonic() - began < HANGS_S / 2  # Ray itself takes 200 s
