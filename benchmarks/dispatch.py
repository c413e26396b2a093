"""No-op evaluations per second through ``raynas.search``, against a plain Tune function trainable.

Both run on one local Ray with two CPUs and two at a time; both figures include the start of their
workers. The plain trainable starts one process per evaluation, which is what Tune does by default.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import pandas as pd
from ray import tune

import raynas
from raynas.cluster.connect import connected

SPACE = raynas.ArchSpace.of(**{f"choice{i}": list(range(8)) for i in range(12)})


def noop(config: dict[str, int]) -> None:
    """Report a number at once."""
    tune.report({"accuracy": float(sum(config.values()))})


def plain(trials: int) -> float:
    """Return evaluations per second of a function trainable."""
    space = {f"choice{i}": tune.randint(0, 8) for i in range(12)}
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(noop, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
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
    given = parser.parse_args()
    with connected(raynas.RayConfig(num_cpus=2)):
        reference = plain(given.plain_trials)
        whole, steady, table = ours(given.trials)
    workers = table["worker"].value_counts()
    print(f"plain Tune function trainable: {reference:.2f} evaluations/s")
    print(f"raynas.search: {whole:.0f} evaluations/s, {steady:.0f} once started")
    print(f"workers: {', '.join(f'{n} by {pid}' for pid, n in workers.items())}")
    print(f"ratio: {whole / reference:.0f} (goal 1000), {steady / reference:.0f} once started")


if __name__ == "__main__":
    main()
