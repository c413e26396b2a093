"""Whether a node is there, and what a failed trial says of one that is not."""

from __future__ import annotations

import os

import pytest

from raynas.cluster.distributed_trials import ProcessLost
from raynas.cluster.nodes import asked_on, is_any_lost, this_node
from raynas.cluster.worker_death import NODE_LOST, RANK_LOST, death_of
from raynas.core.evaluator import describe

NO_NODE = "ff" * 28


@pytest.mark.usefixtures("local_ray")
def test_a_node_that_is_not_there_is_lost_and_ones_own_is_not() -> None:
    assert asked_on(this_node(), os.getpid) == os.getpid()
    assert asked_on(NO_NODE, os.getpid) is None
    assert not is_any_lost([this_node()])
    assert is_any_lost([this_node(), NO_NODE])
    assert not is_any_lost([])


@pytest.mark.parametrize(
    ("said", "brief", "node_lost"),
    [
        (NODE_LOST, "node lost", True),
        (f"{RANK_LOST}: Connection closed by peer", "a training process", False),
        ("as planned", "an error", False),
    ],
)
def test_a_training_that_lost_a_node_is_told_from_one_that_lost_a_process(
    said: str, brief: str, node_lost: bool
) -> None:
    """The text is the trace that Tune keeps of a trial whose process lives."""
    trace = f"ray::ImplicitFunc.train() (pid=1)\n{describe(ProcessLost(said))}\n"
    death = death_of(trace, "")
    assert (death.brief, death.node_lost, death.pid) == (brief, node_lost, None)
