"""Nodes that are lost without notice in the middle of trainings, and others that come and are used.

The runs are those of ``tests.changing_cluster``: in processes of their own, each on a cluster of
its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import raynas
from tests.changing_cluster import KINDS, batches

LOST = r"(?:a training process was|\d training processes were) lost; going on from epoch (\d) "
CLOSE = 1e-4  # sums of float32 over ranks are in another order
BATCHES = 6  # of a training of the search, for each rank

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("ray")]


def run(kind: str, folder: Path) -> str:
    """Run a program to its end, and return what it said."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.changing_cluster", kind, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def check_same_epochs(folder: Path, quiet: Path) -> None:
    """Check that every epoch is there once, with the loss of a training in one process."""
    run("training", quiet)
    history = pd.read_parquet(folder / "run" / "history")
    expected = pd.read_parquet(quiet / "run" / "history")
    assert list(history["epoch"]) == list(expected["epoch"]) == [*range(6)]
    assert list(history["loss"]) == pytest.approx(list(expected["loss"]), rel=CLOSE)


def processes_by_node(folder: Path) -> list[int]:
    """Return how many processes trained on each node, in the order in which nodes began."""
    seen = dict.fromkeys((node, pid) for _, pid, node in batches(folder))
    return list(Counter(node for node, _ in seen).values())


def test_a_training_that_loses_a_node_waits_for_another_one(tmp_path: Path) -> None:
    said = run("fixed", tmp_path / "fixed")
    (epoch,) = re.findall(LOST, said)
    assert int(epoch) > 2, "it began anew"
    assert "a node of 1 CPU comes" in said[said.index(" lost; ") :]
    assert sorted(processes_by_node(tmp_path / "fixed")) == [1, 1, 2]  # the head's has two in turn
    check_same_epochs(tmp_path / "fixed", tmp_path / "quiet")


def test_a_training_grows_with_a_node_and_goes_on_without_it(tmp_path: Path) -> None:
    said = run("ranged", tmp_path / "ranged")
    assert "there is room for more training processes; going on from epoch 2 with 4 of 4" in said
    (epoch,) = re.findall(LOST, said)
    assert int(epoch) > 3, "it began anew"
    assert sorted(processes_by_node(tmp_path / "ranged")) == [3, 3]  # one at a time, and three
    check_same_epochs(tmp_path / "ranged", tmp_path / "quiet")


@pytest.mark.parametrize("kind", ["nested", "nested on both"])
def test_a_search_that_trains_on_several_ranks_uses_a_node_and_loses_it(
    kind: str, tmp_path: Path
) -> None:
    """The process that evaluates is on any node, or on the one that is lost with its ranks."""
    run(kind, tmp_path / "lost")
    run("search", tmp_path / "quiet")
    found, expected = (
        raynas.load(str(tmp_path / name / "run")).trials.sort_values("choice.kind")
        for name in ("lost", "quiet")
    )
    assert list(found["choice.kind"]) == list(expected["choice.kind"]) == [*range(KINDS)]
    assert found["status"].eq("completed").all()
    for name in "accuracy", "loss":
        assert list(found[name]) == pytest.approx(list(expected[name]), rel=CLOSE)

    noted = batches(tmp_path / "lost")
    head = noted[0][2]  # nothing begins before the other node has come but on the head
    there = Counter(kind for kind, _, node in noted if node != head)
    assert len(there) == 1
    assert 2 <= there.total() < 2 * BATCHES, "it was lost in the middle of a training"
    on_head = Counter(kind for kind, _, node in noted if node == head)
    assert on_head == {str(kind): 2 * BATCHES for kind in range(KINDS)}, "others were done again"
    log = (tmp_path / "lost" / "run" / "logs" / "run.log").read_text()
    assert log.count(" was lost (node lost)") == log.count(" was lost (") == 1
