"""A Ray that raynas starts takes requests of its own processes only."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import ray

FOREIGN = """
import sys
from ray._raylet import GcsClient
try:
    nodes = GcsClient(address=sys.argv[1], cluster_id=None).get_all_node_info(timeout=60)
    print("told of", len(nodes), "nodes")
except BaseException as error:
    print(type(error).__name__)
"""
AROUND = """
import os
from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode
from raynas.cluster.local_token import own_token

before, tokens = dict(os.environ), set()
for _ in range(2):
    with own_token():
        assert get_authentication_mode() == AuthenticationMode.TOKEN
        tokens.add(AuthenticationTokenLoader.instance().get_raw_token())
    assert dict(os.environ) == before
    assert get_authentication_mode() == AuthenticationMode.DISABLED
assert len(tokens) == 2 and min(map(len, tokens)) == 64
for mine in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x" * 40}):
    os.environ |= mine
    before = dict(os.environ)
    with own_token():
        assert dict(os.environ) == before  # a user's own hold
    assert dict(os.environ) == before
    os.environ.pop(*mine)
"""


def without_auth() -> dict[str, str]:
    """Return this environment as another user of the machine has it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}


def told(script: str, *args: str, **environment: str) -> str:
    """Return what a process of its own prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        env=without_auth() | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.usefixtures("local_ray")
def test_a_process_that_does_not_know_the_token_is_refused() -> None:
    address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
    assert told(FOREIGN, address) == "AuthenticationError"
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token[::-1]}
    assert told(FOREIGN, address, **wrong) == "AuthenticationError"
    right = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    assert told(FOREIGN, address, **right) == "told of 1 nodes"


def test_the_token_is_new_each_time_and_the_environment_as_before() -> None:
    assert told(AROUND, HOME="/nonexistent") == ""
