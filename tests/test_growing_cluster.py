"""A cluster of several nodes, one of which comes while a search is on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import raynas

SEARCH = """
import os, sys, threading, time
from pathlib import Path
import raynas
from ray.cluster_utils import Cluster

seen = Path(sys.argv[1], "workers")
seen.mkdir()

def met(arch):
    (seen / str(os.getpid())).touch()
    end = time.time() + 300
    while len(list(seen.iterdir())) < 2 and time.time() < end:
        time.sleep(0.1)
    return float(len(list(seen.iterdir())))

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
config = raynas.RayConfig(address=cluster.address, workers=2, batch=1)
given = {"evaluator": met, "trials": 2, "out": sys.argv[1], "ray": config}
space = raynas.ArchSpace.of(x=[1, 2])
search = threading.Thread(target=raynas.search, args=(space, "random"), kwargs=given)
search.start()
while not any(seen.iterdir()):
    time.sleep(0.1)
cluster.add_node(num_cpus=1)  # Ray wants the main thread for this
search.join()
cluster.shutdown()
"""


@pytest.mark.full
@pytest.mark.xdist_group("ray")
def test_workers_that_were_asked_for_begin_when_a_node_comes(tmp_path: Path) -> None:
    """The first one waits in its evaluation until the other one has begun its own."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    subprocess.run(
        [sys.executable, "-c", SEARCH, str(tmp_path)], check=True, env=environment, timeout=600
    )
    trials = raynas.load(str(tmp_path)).trials
    assert trials["accuracy"].eq(2).all()
    assert trials["worker"].nunique() == 2


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_fits_no_node_is_refused(tmp_path: Path) -> None:
    space = raynas.ArchSpace.of(x=[1, 2])
    config = raynas.RayConfig(cpus_per_worker=64)
    with pytest.raises(
        ValueError, match=r"cpus_per_worker: a worker of 64 CPU .* \(2 CPU, 0 GPU\)"
    ):
        raynas.search(space, evaluator=lambda _: 1.0, out=str(tmp_path), ray=config)
