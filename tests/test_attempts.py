"""How often an evaluation is tried again, after processes that died and nodes that were lost."""

from __future__ import annotations

import pytest

from raynas.cluster.attempts import Attempts
from raynas.cluster.worker_death import WorkerDeath

DIED = WorkerDeath(why="the process was ended by SIGSEGV", brief="SIGSEGV")
NODE = WorkerDeath(why="its node was lost", brief="node lost", node_lost=True)


@pytest.mark.parametrize(("death", "most"), [(DIED, 3), (NODE, 10)])
def test_an_evaluation_is_failed_after_its_last_attempt(death: WorkerDeath, most: int) -> None:
    attempts = Attempts()
    for _ in range(most - 1):
        assert attempts.ended(7, death) is None
    expected = f"the evaluating process died in each of {most} attempts: {death.why}"
    assert attempts.ended(7, death) == expected


def test_lost_nodes_are_counted_apart_from_processes_and_other_evaluations() -> None:
    attempts = Attempts()
    for number in range(20):  # two of three, and nine of ten, for each
        assert [attempts.ended(number, DIED) for _ in range(2)] == [None] * 2
        assert [attempts.ended(number, NODE) for _ in range(9)] == [None] * 9
    assert attempts.ended(3, NODE) is not None
    assert attempts.ended(4, DIED) is not None
