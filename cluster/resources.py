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
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(_fitting(node, each) for node in nodes)


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
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
    return ValueError(f"{what} of {takes} each: too much for the nodes of the cluster ({has})")


def _fitting(node: Mapping[str, float], each: Mapping[str, float]) -> int:
    shares = ((node.get(name, 0.0), share) for name, share in each.items() if share)
    return min(int(has / share + 1e-9) for has, share in shares)  # 1 / 0.1 is not 9
