"""Nodes of the cluster: the one that a process is on, and what another one says, if it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_S = 20.0  # in which another node has to do something short

T = TypeVar("T")


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Return what keeps an actor on the node of this process, and so as long as this process.

    Ray takes any node for an actor without CPUs, such as one that is about to leave.
    """
    return NodeAffinitySchedulingStrategy(this_node(), soft=False)


def this_node() -> str:
    """Return the id of the node that this process is on."""
    return str(ray.get_runtime_context().get_node_id())


def asked_on(node: str, function: Callable[..., T], *args: object) -> T | None:
    """Return what a function says on a node; None if the node is lost.

    Ray itself may take half a minute to notice that it is.

    Args:
        node: its id.
        function: that takes no time, and says something.
        args: of the function.
    """
    if node == this_node():
        return function(*args)
    if not any(each["NodeID"] == node and each["Alive"] for each in ray.nodes()):
        return None
    remote: Any = ray.remote(function)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    asked = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    with suppress(RayError):
        answer: T = ray.get(asked.remote(*args), timeout=ANSWER_S)
        return answer
    return None


def is_any_lost(nodes: Iterable[str]) -> bool:
    """Return whether one of some nodes is lost."""
    return any(asked_on(node, _is_there) is None for node in nodes)


def _is_there() -> bool:
    return True
