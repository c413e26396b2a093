"""How many cores each training process has where none are said: none is spread over nodes."""

from __future__ import annotations

import pytest
import ray

from raynas.cluster.resources import even_cpus, processes_that_fit

CASES = [
    # nodes as (CPU, GPU), processes, GPU share of each, cores of each
    ([(8, 0)], 1, 0.0, 7),
    ([(8, 0)], 3, 0.0, 2),
    ([(1, 0)], 1, 0.0, 1),
    ([(2, 0), (2, 0), (2, 0)], 1, 0.0, 1),
    ([(8, 0), (8, 0)], 1, 0.0, 7),
    ([(8, 0), (8, 0)], 2, 0.0, 7),
    ([(9, 0), (5, 0)], 2, 0.0, 4),
    ([(1, 0), (1, 0)], 2, 0.0, 1),
    ([(16, 0), (4, 1)], 1, 1.0, 3),
    ([(32, 2)], 4, 0.5, 7),
    ([(4, 0)], 9, 0.0, 1),  # more nodes are to come
    ([(8, 0)], 1, 1.0, 7),
    ([(0, 0)], 1, 0.0, 1),
]


@pytest.mark.parametrize(("nodes", "count", "gpus", "cores"), CASES)
def test_cores_of_training_processes(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[tuple[int, int]],
    count: int,
    gpus: float,
    cores: int,
) -> None:
    there = [{"Alive": True, "Resources": {"CPU": cpu, "GPU": gpu}} for cpu, gpu in nodes]
    gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [*there, gone])
    assert even_cpus(count, gpus) == cores
    enough = sum(cpu for cpu, _ in nodes) >= count and sum(gpu for _, gpu in nodes) >= gpus * count
    assert (processes_that_fit({"CPU": cores, "GPU": gpus}) >= count) == enough
