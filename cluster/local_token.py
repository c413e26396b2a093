"""A secret that only this process and those that it starts know: the key to its own Ray."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextmanager
def own_token() -> Iterator[None]:
    """Let a Ray that starts here take requests of its own processes only.

    Loopback keeps other machines out, and a token other users of this one, since Ray runs code for
    whoever connects. It stands in the environment of Ray's processes, which no other user can read,
    and in no file: by itself Ray would leave one for all its clusters in the home folder. Where the
    user has set a mode or a token, these hold. Afterwards the environment is as before.
    """
    before = {name: os.environ.get(name) for name in (MODE, TOKEN, TOKEN_PATH)}
    if not any(before.values()):
        os.environ |= {MODE: "token", TOKEN: secrets.token_hex(32)}
        _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)  # Ray sets the mode as well
            else:
                os.environ[name] = value
        _read_again()


def _read_again() -> None:
    """Let Ray, which remembers both, look for mode and token again."""
    core: Any = ray._raylet
    core.Config.initialize("")
    core.AuthenticationTokenLoader.instance().reset_cache()
