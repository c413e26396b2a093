"""The search loop: a study's sampler as a Ray Tune searcher, batches of architectures as trials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import uuid
import warnings
from dataclasses import asdict
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from raynas.cluster.connect import own_sigint, resource, scratch
from raynas.cluster.evaluators import Recipe
from raynas.core.archspace import ArchSpace
from raynas.core.batching import BatchSize
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.evaluator import Budget, Evaluator, Measurement, describe
from raynas.core.progress import Progress
from raynas.core.study import Asked, Study

GATE_S = 20.0  # how long the first workers wait for the last


class _Gate:
    """Lets workers begin together.

    Tune hands the process of a finished trial to the trial that still waits for its own to start,
    and cancels that start: where trials are short, the first worker would do all of them.
    """

    def __init__(self, workers: int) -> None:
        self._missing, self._open = workers, asyncio.Event()

    async def arrive(self) -> None:
        """Return when all workers have come, or some time has passed."""
        self._missing -= 1
        if self._missing <= 0:
            self._open.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._open.wait(), GATE_S)
        self._open.set()


class SubnetEvaluator(tune.Trainable):
    """A worker process that measures one batch of architectures per Tune trial.

    The process outlives its trials. It makes its evaluator in the first ``step`` and not in
    ``setup``, so that slow starts are not cancelled (see ``_Gate``).
    """

    def setup(self, config: dict[str, Any], task: Any = None) -> None:
        """Keep the task; nothing is loaded yet."""
        self._task = task
        self._evaluator: Evaluator | None = None

    def step(self) -> dict[str, Any]:
        """Measure the batch that the trial's config names."""
        if self._evaluator is None:
            ray.get(self._task["gate"].arrive.remote())
            try:
                self._evaluator = self._task["recipe"].make()
            except Exception as error:
                return {"done": True, "broken": describe(error)}
        space: ArchSpace = self._task["space"]
        archs = [space.unpack(text) for text in self.config["archs"].split()]
        found = self._evaluator(archs, self._task["budget"], self._task["seed"])
        return {
            "done": True,
            "measured": json.dumps([asdict(one) for one in found]),
            "worker": str(os.getpid()),
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's batch."""
        self.config = new_config
        return True


class StudySearcher(Searcher):
    """Hands a study's questions to Tune and Tune's answers to the study.

    Tune may save its searcher at any time; there is nothing to save, since every told trial is in
    the run folder and a study is rebuilt from these by replay.
    """

    def __init__(
        self, study: Study, space: ArchSpace, sizes: BatchSize, progress: Progress
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._space, self._sizes, self._progress = study, space, sizes, progress
        self._flying: dict[str, list[Asked]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return a batch as one short text, or FINISHED."""
        batch: list[Asked] = []
        for _ in range(self._sizes.next(self._study.asked, self._study.told)):
            asked = self._study.ask()
            if asked is None:
                break
            batch.append(asked)
        if not batch:
            return str(Searcher.FINISHED)
        self._flying[trial_id] = batch
        return {"archs": " ".join(self._space.pack(asked.arch) for asked in batch)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore: a trial has one result, which comes with its completion."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study what was measured."""
        batch = self._flying.pop(trial_id)
        node = worker = ""
        if result and "broken" in result:
            self._study.failure = f"the evaluator cannot be made: {result['broken']}"
            found = [Measurement(error=self._study.failure)] * len(batch)
        elif error or not result or "measured" not in result:
            lost = Measurement(error="the evaluating process failed or died before it answered")
            found = [lost] * len(batch)
        else:
            found = [Measurement(**one) for one in json.loads(result["measured"])]
            node, worker = result.get("hostname", ""), result["worker"]
            self._sizes.measured(sum(one.duration_s for one in found), len(found))
        self._study.tell(zip(batch, found, strict=True), node=node, worker=worker)
        self._progress.told(self._study)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the run folder holds every told trial."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def run_study(
    study: Study,
    space: ArchSpace,
    recipe: Recipe,
    config: RayConfig,
    progress: Progress,
    *,
    startup: int | None,
) -> None:
    """Evaluate until the study has what it asks for.

    Args:
        study: asks and is told.
        space: of its architectures.
        recipe: makes the evaluator in every worker.
        config: how many workers, and on what.
        progress: told after every batch.
        startup: first asks of the sampler that depend on no tell.

    Raises:
        SearchFailed: the objective is not among the metrics, or no evaluator can be made.
        Interrupted: Ctrl-C; what was told is on disk.
    """
    if study.finished or study.trials <= study.told:
        return
    workers = _workers(config)
    sizes = BatchSize(workers, startup, config.batch)
    first = min(math.ceil((study.trials - study.told) / (config.batch or 1)), space.size())
    gate = ray.remote(num_cpus=0)(_Gate).remote(min(workers, first))
    task = {"gate": gate, "recipe": recipe, "space": space, "budget": Budget(), "seed": study.seed}
    resources = {"cpu": config.cpus_per_worker, "gpu": config.gpus_per_worker}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(SubnetEvaluator, task=task), resources),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, space, sizes, progress),
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex[:8],
            storage_path=str(scratch("tune")),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    with warnings.catch_warnings(), own_sigint():
        warnings.simplefilter("ignore")
        tuner.fit()
    if study.failure is not None:
        raise SearchFailed(study.failure)
    if not study.finished:
        raise Interrupted


def _workers(config: RayConfig) -> int:
    """Return how many workers can run at a time, at most as many as are asked for."""
    fit = [resource("CPU") // config.cpus_per_worker]
    if config.gpus_per_worker:
        fit.append(resource("GPU") // config.gpus_per_worker)
    return max(int(min([*fit, config.workers or math.inf])), 1)


def pickled(value: object) -> bytes:
    """Return a value pickled as Ray does it, classes of the user's script included."""
    return ray.cloudpickle.dumps(value)  # type: ignore[no-any-return]


def share(value: object) -> ray.ObjectRef[Any]:
    """Put a value into the object store, once a node however many workers read it."""
    return ray.put(value)
