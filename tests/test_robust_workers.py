"""Evaluators that kill their process or never come back: the run goes on, with the innocent."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import raynas

SPACE = raynas.ArchSpace.of(depth=[1, 2, 3, 4], width=[8, 16, 32])
DEADLY, FRAIL = (raynas.Arch({"depth": 2, "width": width}) for width in (16, 32))

pytestmark = pytest.mark.usefixtures("local_ray")


def test_those_that_kill_their_process_are_tried_three_times_and_fail_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def deadly(arch: raynas.Arch) -> float:
        first = not log.exists() or arch.key not in log.read_text()
        with open(log, "a") as file:
            file.write(arch.key + "\n")
        if arch == DEADLY or (arch == FRAIL and first):
            os._exit(1)
        return 1.0

    config = raynas.RayConfig(workers=2, batch=6)
    result = raynas.search(
        SPACE, "random", evaluator=deadly, trials=12, out=str(tmp_path / "run"), ray=config
    )
    table = result.trials.set_index("arch_key")
    assert len(table) == 12 == SPACE.size()
    assert list(table.index[table["status"] == "failed"]) == [DEADLY.key]
    assert table.loc[DEADLY.key, "error"] == (
        "the evaluating process died in each of 3 attempts: "
        "the process ended itself with exit code 1"
    )
    # once less if the frail one ended the batch of both before its turn
    assert log.read_text().split().count(DEADLY.key) in (2, 3)
    assert table.drop(DEADLY.key)["accuracy"].eq(1.0).all()


@pytest.mark.full
def test_one_that_never_comes_back_is_ended_and_fails_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def endless(arch: raynas.Arch) -> float:
        with open(log, "a") as file:
            file.write(arch.key + "\n")
        time.sleep(3600 if arch == DEADLY else 0.55)
        return 1.0

    # a batch of four takes longer than the limit, which is of each evaluation
    config = raynas.RayConfig(workers=2, batch=4, timeout_s=2.0)
    result = raynas.search(
        SPACE, "random", evaluator=endless, trials=12, out=str(tmp_path / "run"), ray=config
    )
    table = result.trials.set_index("arch_key")
    assert len(table) == 12 == SPACE.size()
    assert list(table.index[table["status"] == "failed"]) == [DEADLY.key]
    said = "the evaluation took longer than 2 s (timeout_s), and its process was ended"
    assert table.loc[DEADLY.key, "error"] == said
    assert log.read_text().split().count(DEADLY.key) == 1, "it is not tried again"


def test_a_time_limit_is_above_zero() -> None:
    with pytest.raises(ValueError, match=r"timeout_s: input should be greater than 0, got 0"):
        raynas.search(SPACE, evaluator=len, ray={"timeout_s": 0})
