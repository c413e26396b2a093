"""Whether a long run stays as it began: memory, descriptors and files of its processes.

Two runs on a local Ray: a search of many no-op trials, whose driver is measured as trials are told,
and the training of a supernet over many epochs. What is measured after a tenth of each is compared
with what is measured at its end. Ends with exit code 1 where something grows that should not:
descriptors, threads, files, or more bytes a trial or an epoch than are named below.

Named growth: a told trial leaves its key and its numbers in the study and its key in the sampler;
a Tune trial, which is a batch of up to 32, leaves its ``Trial`` in Tune's controller.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import raynas
from raynas.cluster.connect import connected, scratch
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.nn import LayerChoice

SPACE = raynas.ArchSpace.of(**{f"choice{i:02}": [f"op{j}" for j in range(5)] for i in range(20)})
WARM = 0.1  # of a run, after which it should not grow
LIMIT_TRIAL_BYTES = 3_000  # of the driver, a told trial: some 700 of the study and sampler, and
# a batch's share of the 40 kB that Tune keeps of each of its own trials
LIMIT_EPOCH_BYTES = 100_000  # of a training process, an epoch
SLACK_BYTES = 40_000_000  # of any process: what its allocator holds or gives back at will
SLACK_DESCRIPTORS, SLACK_THREADS = 8, 8
SLACK_FILES = 150  # parts that wait for their merge, and Ray's logs of processes


class Tiny(nn.Module):
    """Two choices between small linear layers, on digits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(256, 16)
        self.layers = nn.ModuleList(
            LayerChoice([nn.Linear(16, 16), nn.Identity()], label=f"layer{i}") for i in range(2)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, 10)."""
        x = self.stem(x.flatten(1))
        for layer in self.layers:
            x = x + layer(x).relu()
        logits: Tensor = self.head(x)
        return logits


@dataclass(frozen=True)
class Reading:
    """What a run holds at an instant.

    Attributes:
        done: trials or epochs.
        driver_bytes: resident memory of the driver.
        worker_bytes: of the largest process that it has on the cluster; 0 if there is none.
        descriptors: open ones of the driver.
        threads: of the driver.
        out_files: in the run's folder.
        ray_files: in the folder of Ray's session, Tune's among them.
        ray_bytes: of these.
    """

    done: int
    driver_bytes: int
    worker_bytes: int
    descriptors: int
    threads: int
    out_files: int
    ray_files: int
    ray_bytes: int


class Soaking(Progress):
    """Takes readings at a warm run and every tenth after it.

    Args:
        total: trials or epochs.
        out: the run's folder.
        workers: name of the processes that work for it, as they call themselves.
    """

    def __init__(self, total: int, out: Path, workers: str) -> None:
        self._total, self._out, self._workers = total, out, workers
        self._due = max(int(total * WARM), 1)
        self.readings: list[Reading] = []

    def told(self, study: Study) -> None:
        """Read if it is time."""
        self._read(study.told)

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Read if it is time."""
        self._read(int(row["epoch"]) + 1)

    def _read(self, done: int) -> None:
        if done < self._due or (self.readings and self.readings[-1].done == done):
            return
        self._due = min(self._due + max(self._total // 10, 1), self._total)
        gc.collect()
        session = scratch("tune").parent.parent
        files, size = _files(session)
        self.readings.append(
            Reading(
                done,
                _resident(os.getpid()),
                max(map(_resident, _named(self._workers)), default=0),
                len(os.listdir("/proc/self/fd")),
                len(os.listdir("/proc/self/task")),
                _files(self._out)[0],
                files,
                size,
            )
        )
        print(_line(self.readings[-1]), flush=True)


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0  # it has just ended
    return pages * os.sysconf("SC_PAGE_SIZE")


def _named(text: str) -> list[int]:
    """Return the processes below this one whose command line holds a text."""
    found = []
    for pid in _below():
        with suppress(OSError):  # it has just ended
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _below() -> set[int]:
    """Return this process's descendants."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            tail = (entry / "stat").read_text().rpartition(")")[2]
        except OSError:
            continue
        parents[int(entry.name)] = int(tail.split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _files(folder: Path) -> tuple[int, int]:
    """Return how many files a folder holds, and their bytes."""
    count = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(f"{place}/{name}").st_size
            except OSError:
                continue  # it was removed
            count += 1
    return count, size


def _line(reading: Reading) -> str:
    done, driver, worker, descriptors, threads, out_files, ray_files, ray_bytes = astuple(reading)
    return (
        f"{done:>9,} {driver / 2**20:>10.1f} {worker / 2**20:>10.1f} {descriptors:>12} "
        f"{threads:>8} {out_files:>7} {ray_files:>7} {ray_bytes / 2**20:>8.1f}"
    )


HEAD = (
    "     done  driver MB  worker MB  descriptors  threads  in out  in Ray   Ray MB\n"
    "                                 of the driver          files   files"
)


def grown(readings: list[Reading], each_bytes: int) -> list[str]:
    """Return what has grown more than it may, in words.

    Args:
        readings: the first of a warm run.
        each_bytes: that a process may keep of every trial or epoch.
    """
    first, last = readings[0], readings[-1]
    allowed = each_bytes * (last.done - first.done) + SLACK_BYTES
    limits = {
        "driver_bytes": allowed,
        "worker_bytes": SLACK_BYTES,
        "descriptors": SLACK_DESCRIPTORS,
        "threads": SLACK_THREADS,
        "out_files": SLACK_FILES,
        "ray_files": SLACK_FILES,
    }
    gains = {name: getattr(last, name) - getattr(first, name) for name in limits}
    return [
        f"{name} grew by {gain:,} from {first.done:,} to {last.done:,}, at most {limits[name]:,}"
        for name, gain in gains.items()
        if gain > limits[name]
    ]


def no_op(arch: Mapping[str, Any]) -> dict[str, float]:
    """Return a score at once."""
    return {"accuracy": sum(map(len, map(str, arch.values()))) % 7 / 7}


def searched(trials: int, batch: int | None, out: Path) -> list[Reading]:
    """Search by regularized evolution on two workers."""
    soaking = Soaking(trials, out, "SubnetEvaluator")
    raynas.search(
        SPACE,
        "regularized_evolution",
        evaluator=no_op,
        trials=trials,
        out=str(out),
        ray={"workers": 2, "batch": batch},
        progress=soaking,
    )
    return soaking.readings


def trained(epochs: int, ranks: int, out: Path) -> list[Reading]:
    """Train a supernet by so many ranks; one is this process."""
    soaking = Soaking(epochs, out, "RayTrainWorker")
    raynas.train_supernet(
        raynas.ModelSpace(Tiny),
        epochs=epochs,
        out=str(out),
        ray={"train_workers": ranks},
        progress=soaking,
    )
    return soaking.readings


def part(title: str, run: Callable[[], list[Reading]], limit: int, unit: str) -> list[str]:
    """Run, print what was read, and return what has grown."""
    print(f"{title}\n{HEAD}", flush=True)
    readings = run()
    if len(readings) < 2:
        return [f"{title}: too short to be read twice"]
    first, last = readings[0], readings[-1]
    each = (last.driver_bytes - first.driver_bytes) / max(last.done - first.done, 1)
    print(f"driver: {each:,.0f} bytes {unit}\n", flush=True)
    return [f"{title}: {text}" for text in grown(readings, limit)]


def soak(trials: int, epochs: int, ranks: int, folder: Path, batch: int | None = None) -> list[str]:
    """Return what has grown in a search and in a training, in words; on the Ray that is there."""
    found = []
    if trials:
        search = lambda: searched(trials, batch, folder / "search")  # noqa: E731
        found += part(f"{trials:,} no-op trials", search, LIMIT_TRIAL_BYTES, "a trial")
    if epochs:
        train = lambda: trained(epochs, ranks, folder / "supernet")  # noqa: E731
        found += part(f"{epochs:,} epochs, {ranks} ranks", train, LIMIT_EPOCH_BYTES, "an epoch")
    return found


def main() -> None:
    """Print the readings; exit with 1 where something has grown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2, help="1: the driver trains by itself")
    parser.add_argument("--batch", type=int, help="architectures a Tune trial; as needed if unsaid")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, connected(raynas.RayConfig(num_cpus=2)):
        found = soak(given.trials, given.epochs, given.ranks, Path(folder), given.batch)
    print("\n".join(found) or "nothing grows but what is named")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
