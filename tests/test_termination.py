"""SIGTERM is taken for Ctrl-C, where nobody else takes it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
import ray._private.worker

from raynas.core.errors import Interrupted
from raynas.core.termination import TERMINATED, terminable


@pytest.fixture(autouse=True)
def nobody_else() -> Iterator[None]:
    """As a process begins, whoever took signals before: a plain run of Tune leaves a handler."""
    term = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, term)
    signal.signal(signal.SIGINT, ctrl_c)


def terminate() -> None:
    """Send it to this very thread, so that it has come when this returns."""
    signal.raise_signal(signal.SIGTERM)


def interrupted() -> None:
    """End as a search does."""
    try:
        terminate()
    except KeyboardInterrupt:
        raise Interrupted("after 3 of 5 trials") from None


def test_it_ends_in_a_sentence_and_code_143(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, terminable():
        interrupted()
    assert caught.value.code == TERMINATED == 143
    assert capsys.readouterr().err == "stopped by SIGTERM after 3 of 5 trials\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_it_goes_through_whoever_takes_ctrl_c() -> None:
    """As Tune does, which ends its trials first."""
    taken: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: taken.append(number))
    try:
        with terminable():
            terminate()
    finally:
        signal.signal(signal.SIGINT, before)
    assert taken == [signal.SIGINT]


def test_a_shell_s_background_job_ends_too() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit), terminable():
            terminate()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_outer_of_two_decides() -> None:
    with pytest.raises(SystemExit) as caught, terminable(), terminable():
        terminate()
    assert caught.value.code == TERMINATED


def test_ctrl_c_stays_what_it_is() -> None:
    with pytest.raises(KeyboardInterrupt), terminable():
        raise KeyboardInterrupt


def test_somebody_s_own_handler_stays() -> None:
    taken: list[int] = []

    def own(number: int, _: object) -> None:
        taken.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with terminable():
            terminate()
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    assert taken == [signal.SIGTERM]


def test_what_ray_leaves_does_not_stay() -> None:
    """``ray.init`` in the main thread leaves a handler, which is a function of Ray's module."""

    def left(*_: object) -> None:
        raise AssertionError

    left.__module__ = ray._private.worker.__name__
    signal.signal(signal.SIGTERM, left)
    with pytest.raises(SystemExit), terminable():
        terminate()
    assert signal.getsignal(signal.SIGTERM) is left


def test_another_thread_is_left_alone() -> None:
    def run() -> None:
        with terminable():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
