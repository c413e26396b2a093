"""No-op evaluations per second through ``raynas.search``, against Ray Tune's own trials.

All run on one local Ray with two CPUs and two at a time; all figures include the start of their
workers. A plain function trainable starts one process per evaluation, which is what Tune does by
default; a class with ``reset_config`` and ``reuse_actors=True``, without a limit of trials at once
but the CPUs, keeps its processes, which is the least that Tune takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import pandas as pd
from ray import tune

import raynas
from raynas.cluster.connect import connected

SPACE = raynas.ArchSpace.of(**{f"choice{i}": list(range(8)) for i in range(12)})


def noop(config: dict[str, int]) -> None:
    """Report a number at once."""
    tune.report({"accuracy": float(sum(config.values()))})


class Kept(tune.Trainable):
    """The same as a class, whose process takes one trial after another."""

    def setup(self, config: dict[str, int]) -> None:
        """Take a trial."""
        self.numbers = config

    def reset_config(self, new_config: dict[str, int]) -> bool:
        """Take the next."""
        self.numbers = new_config
        return True

    def step(self) -> dict[str, float | bool]:
        """Return a number at once, and that there is no more."""
        return {"accuracy": float(sum(self.numbers.values())), "done": True}


def of_tune(trainable: Any, trials: int, *, reuse: bool) -> float:
    """Return evaluations per second of a trainable."""
    space = {f"choice{i}": tune.randint(0, 8) for i in range(12)}
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                num_samples=trials,
                # a process is kept for trials that wait already, as none do under a limit
                max_concurrent_trials=None if reuse else 2,
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        started = time.perf_counter()
        tuner.fit()
    return trials / (time.perf_counter() - started)


def ours(trials: int) -> tuple[float, float, pd.DataFrame]:
    """Return evaluations per second with and without the start, and the trial table."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = raynas.search(
            SPACE,
            "regularized_evolution",
            evaluator=lambda arch: float(sum(arch.values())),
            trials=trials,
            out=f"{folder}/run",
        )
        whole = trials / (time.perf_counter() - started)
        table = result.trials
    told = table["finished_utc"].sort_values()
    half = told.iloc[len(told) // 2 :]
    steady = (len(half) - 1) / (half.iloc[-1] - half.iloc[0]).total_seconds()
    return whole, steady, table


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--plain-trials", type=int, default=24)
    parser.add_argument("--kept-trials", type=int, default=600)
    given = parser.parse_args()
    with connected(raynas.RayConfig(num_cpus=2)):
        reference = of_tune(noop, given.plain_trials, reuse=False)
        kept = of_tune(Kept, given.kept_trials, reuse=True)
        whole, steady, table = ours(given.trials)
    workers = table["worker"].value_counts()
    print(f"plain Tune function trainable: {reference:.2f} evaluations/s")
    print(f"Tune class trainable, actors reused: {kept:.1f} evaluations/s")
    print(f"raynas.search: {whole:.0f} evaluations/s, {steady:.0f} once started")
    print(f"workers: {', '.join(f'{n} by {pid}' for pid, n in workers.items())}")
    print(f"ratio: {whole / reference:.0f} (goal 1000), {steady / reference:.0f} once started")
    print(f"over reused actors: {whole / kept:.0f}, {steady / kept:.0f} once started")


if __name__ == "__main__":
    main()
