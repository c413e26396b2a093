"""What fits the connected cluster."""

from __future__ import annotations

from collections.abc import Mapping

import ray


def processes_that_fit(each: Mapping[str, float]) -> int:
    """Return how many processes of these resources fit the nodes that are there.

    Args:
        each: resources of a process, such as ``{"CPU": 2, "GPU": 0.5}``; none is spread over
            several nodes.
    """
    return sum(_fitting(node, each) for node in _nodes())


def even_cpus(count: int, gpus: float) -> int:
    """Return how many cores each of some processes can have: the most with which all fit.

    One core of each node is left to everything else: torch threads that must wait for one of theirs
    to get a core again take many times longer than a single one. Where all do not fit with a core
    each, nodes are expected to come.

    Args:
        count: of processes.
        gpus: share of each; only nodes that have it count.
    """
    nodes = _nodes()
    having = [node for node in nodes if node.get("GPU", 0.0) >= gpus] or nodes
    cores = [int(node.get("CPU", 0.0)) for node in having]
    free = [max(has - 1, min(has, 1)) for has in cores]
    shares = range(max(free, default=1), 1, -1)
    return next((each for each in shares if sum(has // each for has in free) >= count), 1)


def room_for(each: Mapping[str, float], now: int, count: int) -> bool:
    """Return whether some more processes fit, beside all that runs.

    Args:
        each: resources of a process.
        now: how many run.
        count: how many there would be.
    """
    if processes_that_fit(each) < count:
        return False
    free = ray.available_resources()
    return all(free.get(name, 0.0) + 1e-9 >= (count - now) * share for name, share in each.items())


def too_large(what: str, each: Mapping[str, float]) -> ValueError:
    """Return the error that says that processes do not fit, and what there is.

    Args:
        what: the option and the processes that it asks for.
        each: resources of a process.
    """
    takes = " and ".join(f"{share:g} {name}" for name, share in each.items() if share)
    has = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in _nodes())
    return ValueError(f"{what} of {takes} each: too much for the nodes of the cluster ({has})")


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fitting(node: Mapping[str, float], each: Mapping[str, float]) -> int:
    shares = ((node.get(name, 0.0), share) for name, share in each.items() if share)
    return min(int(has / share + 1e-9) for has, share in shares)  # 1 / 0.1 is not 9
