"""What a trial costs to keep: CPU and bytes on disk, reading back, and the memory of the driver.

Trials have twenty choices of five options and three metrics. Written are parts of ``--part`` rows,
each synced to the disk; read is a whole run through ``raynas.load(...).trials``; the study is one
with the sampler ``random``, a measurement that costs nothing and the real store, without Ray, told
in batches of 32, as workers on short evaluations are. CPU times are the process's, all threads
together; memory is what the process's resident set grew by, counted after the first trials.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

import raynas
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.evaluator import Measurement
from raynas.core.goals import goals_of
from raynas.core.sampler import SAMPLERS
from raynas.core.study import Asked, Study, StudyInfo
from raynas.core.trial import Trial
from raynas.storage.run_folder import Folder
from raynas.storage.table_writers import TrialStore

SPACE = ArchSpace.of(**{f"choice{i:02}": [f"op{j}" for j in range(5)] for i in range(20)})
METRICS = ("accuracy", "loss", "latency_ms")
BATCH = 32


def measurement(rng: np.random.Generator) -> Measurement:
    """Return numbers as an evaluation gives them."""
    accuracy, loss, latency = rng.random(3)
    metrics = {"accuracy": accuracy, "loss": loss, "latency_ms": latency}
    return Measurement(metrics=metrics, started_s=time.time(), duration_s=float(rng.random()))


def study(out: str, trials: int) -> Study:
    """Return a fresh study of random search that writes to ``out``."""
    return Study(
        SAMPLERS["random"](SPACE, seed=0),
        goals_of({"accuracy": "max"}),
        trials=trials,
        setting=StudyInfo(algo="random", evaluator="function"),
        sink=TrialStore(out, SPACE, METRICS).append,
    )


def batches(run: Study, size: int) -> Iterator[list[Trial]]:
    """Evaluate until the study ends; yield what was told, batch by batch."""
    rng = np.random.default_rng(0)
    while not run.finished:
        asked: list[Asked] = []
        while len(asked) < size and (one := run.ask()) is not None:
            asked.append(one)
        results = [(one, measurement(rng)) for one in asked]
        yield run.tell(results, node="127.0.0.1", worker="12345")


def run_folder(out: str) -> None:
    """Write the configuration that makes a folder of trials a run."""
    config = SearchConfig(
        space=ComponentSpec(name="ArchSpace"),
        algo=ComponentSpec(name="random"),
        evaluator=ComponentSpec(name="function"),
        objectives={"accuracy": "max"},
        out=out,
    )
    Folder(out).begin(config, resume=False)


def storing(trials: int, part: int, repeats: int) -> None:
    """Print CPU and bytes per written trial, and CPU of reading all of them."""
    writing, reading = [], []
    with tempfile.TemporaryDirectory() as scratch:
        told = [row for rows in batches(study(f"{scratch}/made", trials), part) for row in rows]
        assert all(trial.arch.key for trial in told)  # a study and its sampler know them by it
        for repeat in range(repeats):
            out = f"{scratch}/{repeat}"
            run_folder(out)
            store = TrialStore(out, SPACE, METRICS)
            began = time.process_time()
            for start in range(0, trials, part):
                store.append(told[start : start + part])
            writing.append(time.process_time() - began)
            began = time.process_time()
            frame = raynas.load(out).trials
            reading.append(time.process_time() - began)
            assert len(frame) == trials
        sizes = [file.stat().st_size for file in Path(out, "trials").iterdir()]
    micros = sorted(1e6 * seconds / trials for seconds in writing)
    seconds = sorted(reading)
    print(f"{trials:,} trials, {part} a part, {len(sizes)} files in the end, {repeats} times")
    print(
        f"writing  {micros[0]:6.1f} us CPU a trial at least, {median(micros):.1f} median (goal 20)"
    )
    print(f"on disk  {sum(sizes) / trials:6.1f} bytes a trial (goal 150)")
    print(f"reading  {seconds[0]:6.3f} s CPU at least, {median(seconds):.3f} median (goal 0.2)")


def resident_bytes() -> int:
    """Return how much memory this process has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def studying(trials: int, first: int) -> None:
    """Print what a trial of a study costs at its beginning and at its end, and leaves in memory."""
    costs: list[float] = []
    with tempfile.TemporaryDirectory() as out:
        run = study(out, trials)
        began, done, start_bytes = time.process_time(), 0, 0
        for rows in batches(run, BATCH):
            done += len(rows)
            if done >= (len(costs) + 1) * first:
                costs.append(1e6 * (time.process_time() - began) / first)
                start_bytes = start_bytes or resident_bytes()
                began = time.process_time()
        grown = resident_bytes() - start_bytes
    kept = f"{grown / (trials - first):.0f} bytes a trial" if trials > first else "-"
    print(f"{trials:>9,} {costs[0]:>12.1f} {costs[-1]:>12.1f}   {kept}", flush=True)


def main() -> None:
    """Print the figures; each study has a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--part", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--studies", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone is not None:
        studying(given.alone, min(given.alone, 10_000))
        return
    storing(given.trials, given.part, given.repeats)
    if given.studies:
        print("   trials     first 10k     last 10k   us CPU a trial of a study; memory kept")
    for trials in given.studies:
        subprocess.run([sys.executable, __file__, "--alone", str(trials)], check=True)


if __name__ == "__main__":
    main()
