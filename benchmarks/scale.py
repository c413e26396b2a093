"""What the driver of a search costs a trial, from 10 to 1,000 workers, and how busy they are.

Evaluations take 1 s on average, with a heavy tail (log-normal, sigma 1: one in a hundred takes more
than 6 s), and cost nothing: the workers of a Tune run are processes, of which a small machine holds
few, so that they are simulated at two depths.

* ``own``: sampler, study, store and searcher (``cluster/searcher.py``) are the real ones, in this
  process; completions come in the order of simulated time.
* ``tune``: the real ``raynas.cluster.tune.run_study``: Tune's controller, its messages through Ray
  and its waiting on all that is in flight. Only the processes are not one a worker: each of the
  actors that Tune starts is one of many in a few host processes, and answers at once, with the
  duration that an evaluation would have taken. So the driver is never idle, and the CPU of its
  thread over told trials is what each costs while so many are in flight.

How busy workers are is then simulated with that cost: one driver, who answers one after the other.

A driver that has a core for itself is assumed: CPU time is counted and not the clock, which says
little on a shared machine.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import ray
from ray.tune.execution import tune_controller as untyped_controller

import raynas
from raynas.cluster.connect import connected
from raynas.cluster.searcher import StudySearcher
from raynas.cluster.tune import run_study
from raynas.core.archspace import ArchSpace
from raynas.core.batching import BatchSize
from raynas.core.config import RayConfig
from raynas.core.evaluator import Budget, Evaluator, Measurement
from raynas.core.goals import goals_of
from raynas.core.progress import Progress
from raynas.core.sampler import SAMPLERS
from raynas.core.study import Study, StudyInfo
from raynas.evaluators.spec import EvaluatorSpec, Worker
from raynas.storage.table_writers import TrialStore

SPACE = ArchSpace.of(**{f"choice{i:02}": [f"op{j}" for j in range(5)] for i in range(20)})
MEAN_S, SIGMA = 1.0, 1.0
HOSTS = 2
COLUMNS = ("own", "tune")
tune_controller: Any = untyped_controller  # whose manager of actors is exchanged
RayActorManager: Any = tune_controller.RayActorManager
ActorClass: Any = ray.actor.ActorClass


def duration_s(rng: np.random.Generator) -> float:
    """Return what an evaluation takes."""
    return float(rng.lognormal(math.log(MEAN_S) - SIGMA**2 / 2, SIGMA))


def measured(archs: int, rng: np.random.Generator) -> list[Measurement]:
    """Return what a worker says of so many architectures."""
    return [
        Measurement(
            metrics={"accuracy": float(rng.random())},
            started_s=time.time(),
            duration_s=duration_s(rng),
        )
        for _ in range(archs)
    ]


def answer(measurements: list[Measurement], worker: int) -> dict[str, Any]:
    """Return a worker's answer, as ``cluster/worker.py`` gives it."""
    text = json.dumps([vars(measurement) for measurement in measurements])
    return {"done": True, "measured": text, "worker": str(worker), "hostname": "simulated"}


def study_of(out: str, algo: str, trials: int) -> Study:
    """Return a fresh study that writes to a folder."""
    return Study(
        SAMPLERS[algo](SPACE, seed=0),
        goals_of({"accuracy": "max"}),
        trials=trials,
        setting=StudyInfo(algo=algo, evaluator="simulated"),
        sink=TrialStore(out, SPACE, ["accuracy"]).append,
    )


@dataclass
class Row:
    """What came of a run.

    Attributes:
        driver_ms: of the driver's thread, a told trial.
        batch: architectures a message, on average.
        busy: share of the workers' time in which they evaluate, once all have begun.
    """

    driver_ms: float
    batch: float
    busy: float


# --- the driver's own work, in simulated time -----------------------------------------------------


def own(algo: str, workers: int, trials: int) -> Row:
    """Run searcher, study, sampler and store against simulated workers."""
    rng = np.random.default_rng(0)
    numbers, flying = count(), list[tuple[float, str, list[Measurement]]]()
    now_s = cpu_s = 0.0
    messages = 0
    with tempfile.TemporaryDirectory() as out:
        study = study_of(out, algo, trials)
        searcher = StudySearcher(study, SPACE, BatchSize(workers, study.startup), Progress())

        def spent(call: Callable[[], Any]) -> Any:
            nonlocal now_s, cpu_s
            began_s = time.thread_time()
            returned = call()
            cost_s = time.thread_time() - began_s
            now_s, cpu_s = now_s + cost_s, cpu_s + cost_s
            return returned

        def ask() -> None:
            nonlocal messages
            name = str(next(numbers))
            batch = spent(lambda: searcher.suggest(name))
            if isinstance(batch, dict):
                messages += 1
                found = measured(len(batch["archs"].split()), rng)
                heapq.heappush(flying, (now_s + sum(m.duration_s for m in found), name, found))

        for _ in range(workers):
            ask()
        while flying:
            ended_s, name, found = heapq.heappop(flying)
            now_s = max(now_s, ended_s)
            said = answer(found, 0)
            spent(partial(searcher.on_trial_complete, name, said))
            ask()
        assert study.told == trials
    batch = trials / messages
    return Row(1e3 * cpu_s / trials, batch, utilisation(workers, batch, cpu_s / messages))


def utilisation(workers: int, batch: float, cost_s: float, rounds: int = 60) -> float:
    """Return how busy workers are whom one driver answers one after the other.

    Args:
        workers: how many.
        batch: architectures a message, on average.
        cost_s: of a message.
        rounds: messages a worker; the first half is left out.
    """
    rng = np.random.default_rng(0)
    waiting = [(cost_s * number, number) for number in range(workers)]
    heapq.heapify(waiting)
    driver_s = busy_s = since_s = 0.0
    for message in range(rounds * workers):
        ended_s, worker = heapq.heappop(waiting)
        driver_s = max(driver_s, ended_s) + cost_s
        size = int(batch) + (rng.random() < batch % 1)
        took_s = sum(duration_s(rng) for _ in range(size))
        if message == rounds * workers // 2:
            since_s = driver_s
        if message >= rounds * workers // 2:
            busy_s += took_s
        heapq.heappush(waiting, (driver_s + took_s, worker))
    return min(busy_s / (workers * (driver_s - since_s)), 1.0)


# --- through Tune and Ray, on simulated processes -------------------------------------------------


class Host:
    """Answers for many workers."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(os.getpid())
        self._configs: dict[int, dict[str, Any]] = {}
        self._answered: dict[int, int] = {}

    def call(self, worker: int, method: str, args: tuple[Any, ...], keys: Mapping[str, Any]) -> Any:
        """Do what a worker's method does, as far as Tune sees it."""
        if method == "config":
            self._configs[worker] = args[0]
        elif method == "reset":
            self._configs[worker] = args[0]
            return True
        elif method in ("train", "train_buffered"):
            found = measured(len(self._configs[worker]["archs"].split()), self._rng)
            self._answered[worker] = self._answered.get(worker, 0) + 1
            spent_s = sum(measurement.duration_s for measurement in found)
            result = answer(found, worker) | {
                "training_iteration": 1,
                "time_this_iter_s": spent_s,
                "time_total_s": spent_s,
                "timestamp": int(time.time()),
                "pid": os.getpid(),
                "config": self._configs[worker],
            }
            return [result] if method == "train_buffered" else result
        return None


class Method:
    """A method of a worker on a host."""

    def __init__(self, host: Any, worker: int, name: str) -> None:
        self._host, self._worker, self._name = host, worker, name

    def remote(self, *args: Any, **keys: Any) -> ray.ObjectRef[Any]:
        """Call it."""
        future: ray.ObjectRef[Any] = self._host.call.remote(self._worker, self._name, args, keys)
        return future


class SimulatedActor:
    """What Tune takes for the handle of an actor."""

    def __init__(self, host: Any, worker: int) -> None:
        self._host, self._worker = host, worker

    def __getattr__(self, name: str) -> Method:
        if name.startswith("_") and name not in ("__ray_ready__", "__ray_terminate__"):
            raise AttributeError(name)
        return Method(self._host, self._worker, name)


class SimulatedClass(ActorClass):  # type: ignore[misc]
    """What Tune takes for the class of an actor: one of many on a host."""

    def __init__(self, host: Any, worker: int) -> None:
        self._host, self._worker = host, worker

    def options(self, **_: Any) -> SimulatedClass:
        """Ignore what Ray would be told."""
        return self

    def remote(self, config: Mapping[str, Any], **_: Any) -> SimulatedActor:
        """Start it."""
        self._host.call.remote(self._worker, "config", (config,), {})
        return SimulatedActor(self._host, self._worker)


class SimulatedProcesses(RayActorManager):  # type: ignore[misc]
    """Tune's own manager of actors, but for the processes that it starts."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        host: Any = ray.remote(num_cpus=0)(Host)
        self._hosts = [host.remote() for _ in range(HOSTS)]
        self._numbers = count()

    def add_actor(self, cls: Any, kwargs: Mapping[str, Any], *args: Any, **keys: Any) -> Any:
        """Add one on a host."""
        number = next(self._numbers)
        host = self._hosts[number % HOSTS]
        return super().add_actor(SimulatedClass(host, number), dict(kwargs), *args, **keys)


@contextmanager
def simulated_processes() -> Iterator[None]:
    """Let Tune start workers on hosts."""
    tune_controller.RayActorManager = SimulatedProcesses
    try:
        yield
    finally:
        tune_controller.RayActorManager = RayActorManager


class Clock(Progress):
    """Reads the driver's CPU whenever trials are told."""

    def __init__(self, warm: int) -> None:
        self._warm = warm
        self.read: list[tuple[int, float]] = []

    def told(self, study: Study) -> None:
        """Read, once all workers have begun."""
        if study.told >= self._warm:
            self.read.append((study.told, time.thread_time()))


class NoEvaluator(Evaluator):
    """Is sent, and never called: the hosts answer."""

    def __call__(self, archs: Any, budget: Budget, seed: int) -> list[Measurement]:
        """Return nothing."""
        return []


def make(worker: Worker) -> Evaluator:  # noqa: ARG001
    """Return what is never called."""
    return NoEvaluator()


def through_tune(algo: str, workers: int, trials: int) -> Row:
    """Run a study through Tune on simulated processes."""
    clock = Clock(warm=workers + trials // 4)
    spec = EvaluatorSpec(name="simulated", metrics=("accuracy",), make=make)
    config = RayConfig(workers=workers, num_cpus=workers)
    with tempfile.TemporaryDirectory() as out, simulated_processes():
        study = study_of(out, algo, workers + trials)
        run_study(study, SPACE, spec, out, config, clock)
    steady = [read for read in clock.read if read[0] <= trials]  # then all are asked
    (first, began_s), (last, ended_s) = steady[0], steady[-1]
    cost_s = (ended_s - began_s) / (last - first)
    batch = (last - first) / (len(steady) - 1)
    return Row(1e3 * cost_s, batch, utilisation(workers, batch, cost_s * batch))


def trials_of(workers: int) -> int:
    """Return how many trials show a steady state."""
    return max(400, 4 * workers)


def shown(kind: str, algo: str, workers: int, run: Callable[[str, int, int], Row]) -> None:
    """Run and print a row."""
    row = run(algo, workers, trials_of(workers))
    print(
        f"{kind:<5} {algo:<22} {workers:>6,} {row.driver_ms:>9.2f} {row.batch:>6.1f} "
        f"{1e3 / row.driver_ms:>9,.0f} {row.busy:>7.1%}",
        flush=True,
    )


def main() -> None:
    """Print a row for every depth, sampler and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[10, 32, 100, 316, 1000])
    parser.add_argument(
        "--algos",
        nargs="*",
        default=["random", "regularized_evolution", "predictor", "tpe"],
    )
    parser.add_argument("--depths", nargs="*", default=list(COLUMNS), choices=COLUMNS)
    given = parser.parse_args()
    print("depth algorithm             workers ms/trial  batch  trials/s    busy")
    if "own" in given.depths:
        for algo in given.algos:
            for workers in given.workers:
                shown("own", algo, workers, own)
    if "tune" in given.depths:
        with connected(raynas.RayConfig(num_cpus=max(given.workers))):
            for algo in given.algos:
                for workers in given.workers:
                    shown("tune", algo, workers, through_tune)


if __name__ == "__main__":
    main()
