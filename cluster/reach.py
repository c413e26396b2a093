"""Whether a cluster's address answers, found out before Ray waits for it."""

from __future__ import annotations

import os
import socket
import time

ANSWER_S = 5.0  # Ray itself tries for minutes


def check_reachable(address: str, said_by: str, within_s: float = ANSWER_S) -> None:
    """Wait until something listens at a cluster's address.

    Args:
        address: ``host:port``; ``auto`` and ``local`` are Ray's own to resolve.
        said_by: where the address comes from, for the message.
        within_s: how long to try.

    Raises:
        ConnectionError: nobody answers.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    deadline = time.monotonic() + within_s
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=left).close()
            return
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError | socket.gaierror)
            if refused or time.monotonic() >= deadline:
                raise ConnectionError(silent(address, said_by, str(error))) from None
        time.sleep(0.2)


def why_silent(within_s: float) -> str:
    """Return why a Ray that listens may not have answered within some seconds."""
    why = f"it was silent for {within_s:.0f} s, as Ray is to those who send"
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return f"{why} another token than its own (RAY_AUTH_TOKEN, or else ~/.ray/auth_token)"
    return f"{why} no token if it has one (set RAY_AUTH_MODE=token to send ~/.ray/auth_token)"


def silent(address: str, said_by: str, why: str) -> str:
    """Return what to say of an address where no Ray answers."""
    return (
        f"no Ray answers at {address} ({said_by}): {why}; start one there with `ray start --head`, "
        f"name another address, or leave {said_by} out to run on this machine alone"
    )
