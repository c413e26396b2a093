"""What a trial costs in a space of a thousand decisions: by part, and through ``raynas.search``.

A reference search is the bare ask and tell of regularized evolution, which every search needs; the
evaluation costs nothing. CPU times are the calling process's, all threads together, so that other
work on the machine counts little; times by the clock, which other work stretches, include what the
workers and Ray do, but not their start. ``search`` has batches as they grow by themselves, two
workers with Ray, batches of one without it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import raynas
from raynas.cluster.connect import connected
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.evaluator import Measurement
from raynas.core.goals import goals_of
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.study import Study, StudyInfo
from raynas.core.trial import Trial
from raynas.storage.table_writers import TrialStore
from raynas.storage.tables import load_trials, read_trials

ALGORITHM = "regularized_evolution"
SAMPLER_NAMES = (
    "random", "grid", ALGORITHM, "evolution", "local_search", "reinforce", "predictor",
)  # fmt: skip
GOAL_MS = 10.0  # of a trial through search, and of an ask and tell of local search
SAMPLER_GOAL_MS = 1.0  # of random and regularized evolution
MODEL_GOAL_MS = 50.0  # of the predictor


def deep(decisions: int, options: int) -> ArchSpace:
    """Return a flat space."""
    names = [f"op{i}" for i in range(options)]
    return ArchSpace.of(**{f"choice{i:05}": names for i in range(decisions)})


def score(arch: Arch) -> float:
    """Return how often the first option is taken."""
    return float(sum(value == "op0" for value in arch.values()))


def cpu_ms(function: Callable[[], object], repeats: int) -> float:
    """Return the mean CPU time of a call, after a first that is not counted."""
    function()
    began = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - began) / repeats * 1000


def ask_and_tell(sampler: Sampler, trials: int) -> float:
    """Return the mean CPU time of an ask and its tell, starts included."""
    spent = 0.0
    for _ in range(trials):
        began = time.process_time()
        arch = sampler.ask()
        spent += time.process_time() - began
        trial = Trial.completed(arch, score(arch))
        began = time.process_time()
        sampler.tell(trial)
        spent += time.process_time() - began
    return spent / trials * 1000


def architectures(space: ArchSpace, repeats: int) -> dict[str, float]:
    """Return the CPU time of what is done with one architecture."""
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    plain, text, packed = dict(arch), arch.to_json(), space.pack(arch)
    return {
        "sample": cpu_ms(lambda: space.sample(rng), repeats),
        "mutate": cpu_ms(lambda: space.mutate(arch, rng), repeats),
        "check": cpu_ms(lambda: space.check(arch), repeats),
        "JSON and key": cpu_ms(lambda: Arch(plain).key, repeats),
        "from JSON": cpu_ms(lambda: Arch.from_json(text), repeats),
        "pack": cpu_ms(lambda: space.pack(arch), repeats),
        "unpack": cpu_ms(lambda: space.unpack(packed), repeats),
    }


def storing(space: ArchSpace, batch: int, appends: int) -> dict[str, float]:
    """Return the CPU time a trial of keeping batches, merges included, and of reading them."""
    rng = np.random.default_rng(0)
    count = batch * appends
    trials = [Trial.completed(space.sample(rng), float(n), accuracy=float(n)) for n in range(count)]
    assert all(trial.arch.key for trial in trials)  # a sampler has asked for it before
    with tempfile.TemporaryDirectory() as out:
        store = TrialStore(out, space, ["accuracy"])
        store.append(trials[:batch])
        began = time.process_time()
        for start in range(batch, count, batch):
            store.append(trials[start : start + batch])
        writing = (time.process_time() - began) / (count - batch) * 1000
        name = f"{batch} a batch"
        return {
            f"append, {name}": writing,
            f"load_trials, {name}": cpu_ms(lambda: load_trials(out, space), 1) / count,
            f"read_trials, {name}": cpu_ms(lambda: read_trials(out), 1) / count,
        }


def study(space: ArchSpace, trials: int, batch: int) -> float:
    """Return the CPU time a trial of a study with its sampler and store, without a runner."""
    with tempfile.TemporaryDirectory() as out:
        run = Study(
            SAMPLERS[ALGORITHM](space, seed=0),
            goals_of({"accuracy": "max"}),
            trials=trials,
            setting=StudyInfo(algo=ALGORITHM, evaluator="function"),
            sink=TrialStore(out, space, ["accuracy"]).append,
        )
        began = time.process_time()
        while not run.finished:
            asked = [one for _ in range(batch) if (one := run.ask()) is not None]
            metrics = [{"accuracy": score(one.arch)} for one in asked]
            run.tell([(a, Measurement(metrics=m)) for a, m in zip(asked, metrics, strict=True)])
        return (time.process_time() - began) / trials * 1000


def search(space: ArchSpace, trials: int, *, inline: bool) -> tuple[float, float]:
    """Return milliseconds a trial by the clock, from the first result on, and CPU in all."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        result = raynas.search(
            space,
            ALGORITHM,
            evaluator=score,
            trials=trials,
            out=str(Path(folder, "run")),
            ray={"inline": True} if inline else {"workers": 2},
        )
        spent = (time.process_time() - began) / trials * 1000
        told: pd.Series = result.trials["finished_utc"].sort_values()
    clock_s = (told.iloc[-1] - told.iloc[0]).total_seconds()
    return clock_s / (trials - 1) * 1000, spent


def row(name: str, milliseconds: float, reference: float, goal: float | None = None) -> None:
    """Print a line of the table."""
    told = "" if goal is None else f"   (goal {goal:g} ms)"
    print(f"{name:34}{milliseconds:10.3f}{milliseconds / reference:10.2f}{told}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000)
    parser.add_argument("--options", type=int, default=3)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--samplers", nargs="+", default=SAMPLER_NAMES)
    parser.add_argument("--without-ray", action="store_true", help="leave out what starts Ray")
    given = parser.parse_args()
    space = deep(given.decisions, given.options)
    reference = ask_and_tell(SAMPLERS[ALGORITHM](space, seed=0), given.trials)
    print(f"{given.decisions:,} decisions of {given.options}, {given.trials} trials")
    print(f"{'CPU of a trial':34}{'ms':>10}{'of ' + 'asking':>10}")
    goals = {"random": SAMPLER_GOAL_MS, ALGORITHM: SAMPLER_GOAL_MS, "local_search": GOAL_MS}
    goals["predictor"] = MODEL_GOAL_MS
    for name in given.samplers:
        spent = ask_and_tell(SAMPLERS[name](space, seed=0), given.trials)
        row(f"ask and tell, {name}", spent, reference, goals.get(name))
    for name, spent in architectures(space, 50).items():
        row(name, spent, reference)
    for batch in (1, 8, 32):
        for name, spent in storing(space, batch, 128).items():
            row(name, spent, reference)
    for batch in (1, 8):
        row(f"study, {batch} a batch", study(space, given.trials, batch), reference, GOAL_MS)
    search(space, 2, inline=True)  # imports
    clock, spent = search(space, given.trials, inline=True)
    row("search inline, by the clock", clock, reference, GOAL_MS)
    row("search inline, CPU", spent, reference)
    if given.without_ray:
        return
    with connected(raynas.RayConfig(num_cpus=2)):
        clock, spent = search(space, given.trials, inline=False)
    row("search with Ray, by the clock", clock, reference, GOAL_MS)
    row("search with Ray, CPU", spent, reference)


if __name__ == "__main__":
    main()
