"""The search loop: a study's sampler as a Ray Tune searcher, batches of architectures as trials."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import Searcher

from raynas.cluster.connect import address_of, own_sigint, scratch
from raynas.cluster.evaluators import Recipe
from raynas.cluster.start_barrier import StartBarrier
from raynas.cluster.timeout import EvaluationTimeout
from raynas.core.archspace import ArchSpace
from raynas.core.batching import BatchSize
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.evaluator import Budget, Measurement, SuccessiveHalving, describe
from raynas.core.objectives import MissingObjective
from raynas.core.progress import Progress
from raynas.core.study import Asked, Study
from raynas.evaluators.training_group import TrainingGroup

ATTEMPTS = 3  # evaluations of one architecture that may end their process, before it is failed


class SubnetEvaluator(tune.Trainable):
    """A worker process that measures one batch of architectures per Tune trial.

    The process outlives its trials. It makes its evaluator in the first ``step`` and not in
    ``setup``, so that slow starts are not cancelled (see ``StartBarrier``). Where the evaluator
    trains, a batch is one architecture and a step is one epoch, so that Tune can stop it after any.
    """

    def setup(self, config: dict[str, Any], task: Any = None) -> None:
        """Keep the task; nothing is loaded yet."""
        self._task = task
        self._evaluator: Any = None
        self._epochs: Generator[Measurement, None, None] | None = None
        self._spent_s = 0.0

    def step(self) -> dict[str, Any]:
        """Measure the batch that the trial's config names, or train it for one more epoch."""
        if self._evaluator is None:
            ray.get(self._task["gate"].arrive.remote())
            try:
                self._evaluator = self._task["recipe"].make()
            except Exception as error:
                return {"done": True, "broken": describe(error)}
        packed = self.config["archs"].split()
        if self._task["recipe"].epochs:
            return self._epoch(*packed)
        alone = self._task["timeout_s"] is not None  # so that each has its own limit
        groups = [[text] for text in packed] if alone else [packed]
        found = [one for group in groups for one in self._measured(group)]
        return self._answer(found, done=True)

    def _measured(self, packed: list[str]) -> list[Measurement]:
        archs = [self._task["space"].unpack(text) for text in packed]
        with self._limited(packed[0]):
            found: list[Measurement] = self._evaluator(
                archs, self._task["budget"], self._task["seed"]
            )
        return found

    def _epoch(self, packed: str) -> dict[str, Any]:
        if self._epochs is None:
            if hasattr(self._evaluator, "ready"):
                self._evaluator.ready()  # the start of its job counts for no architecture
            arch = self._task["space"].unpack(packed)
            self._epochs, self._spent_s = self._evaluator.by_epoch(arch, self._task["seed"]), 0.0
        with self._limited(packed):
            found = next(self._epochs)
        self._spent_s = found.duration_s
        done = found.error is not None or found.epochs == self._task["recipe"].epochs
        if done:  # no trial may follow, and others may wait for what the training holds
            self._stop()
        answer = self._answer([found], done)
        with contextlib.suppress(MissingObjective):  # the study says so
            if found.error is None:
                score = self._task["goals"].merged(found.metrics)
                answer |= {"epoch": found.epochs, "score": score}
        return answer

    def _answer(self, found: list[Measurement], done: bool) -> dict[str, Any]:
        measured = json.dumps([asdict(one) for one in found])
        return {"done": done, "measured": measured, "worker": str(os.getpid())}

    @contextmanager
    def _limited(self, arch: str) -> Iterator[None]:
        """Let this process be ended if what is done inside takes too long."""
        limit_s = self._task["timeout_s"]
        if limit_s is None:
            yield
            return
        watch, me = self._task["watch"], ray.get_runtime_context().current_actor
        watch.began.remote(arch, me, max(limit_s - self._spent_s, 0.0))
        try:
            yield
        finally:
            watch.over.remote(arch)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's batch."""
        self._stop()
        self.config, self._spent_s = new_config, 0.0
        return True

    def cleanup(self) -> None:
        """End what the evaluator has started."""
        self._stop()
        if hasattr(self._evaluator, "close"):
            self._evaluator.close()

    def _stop(self) -> None:
        """End a training that was stopped before its last epoch."""
        if self._epochs is not None:
            self._epochs.close()
        self._epochs = None


class StudySearcher(Searcher):
    """Hands a study's questions to Tune and Tune's answers to the study.

    What a process that died was evaluating is evaluated again, each architecture alone, so that
    only the one that ends its process again and again is told as failed.

    Tune may save its searcher at any time; there is nothing to save, since every told trial is in
    the run folder and a study is rebuilt from these by replay.
    """

    def __init__(
        self,
        study: Study,
        space: ArchSpace,
        sizes: BatchSize,
        progress: Progress,
        watch: Any = None,
        timeout_s: float | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._space, self._sizes, self._progress = study, space, sizes, progress
        self._watch, self._timeout_s = watch, timeout_s
        self._flying: dict[str, list[Asked]] = {}
        self._again: deque[Asked] = deque()
        self._deaths: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> Any:
        """Return a batch as one short text; None while a lost one may come back; or FINISHED."""
        batch = self._next()
        if not batch:
            return None if self._flying else str(Searcher.FINISHED)
        self._flying[trial_id] = batch
        return {"archs": " ".join(self._space.pack(asked.arch) for asked in batch)}

    def _next(self) -> list[Asked]:
        if self._study.failure is not None:
            return []
        if self._again:
            return [self._again.popleft()]
        batch: list[Asked] = []
        for _ in range(self._sizes.next(self._study.asked, self._study.told)):
            asked = self._study.ask()
            if asked is None:
                break
            batch.append(asked)
        return batch

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore: what counts is the last result, which comes with the trial's completion."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study what was measured."""
        batch = self._flying.pop(trial_id)
        node = worker = ""
        if result and "broken" in result:
            self._study.failure = f"the evaluator cannot be made: {result['broken']}"
            told = [(asked, Measurement(error=self._study.failure, epochs=0)) for asked in batch]
        elif error or not result or "measured" not in result:
            told = self._lost(batch)
        else:
            found = [Measurement(**one) for one in json.loads(result["measured"])]
            node, worker = result.get("hostname", ""), result["worker"]
            self._sizes.measured(sum(one.duration_s for one in found), len(found))
            told = list(zip(batch, found, strict=True))
        if told:
            self._study.tell(told, node=node, worker=worker)
            self._progress.told(self._study)

    def _lost(self, batch: list[Asked]) -> list[tuple[Asked, Measurement]]:
        """Return what is to be told of a batch whose process died; keep the others for later."""
        packed = [self._space.pack(asked.arch) for asked in batch]
        late = set() if self._watch is None else set(ray.get(self._watch.late.remote(packed)))
        told = []
        for asked, text in zip(batch, packed, strict=True):
            self._deaths[asked.number] += not late
            if text in late:
                told.append((asked, _failed(_LATE.format(self._timeout_s))))
            elif self._deaths[asked.number] == ATTEMPTS:
                told.append((asked, _failed(_DEAD.format(ATTEMPTS))))
            else:
                self._again.append(asked)
        return told

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the run folder holds every told trial."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


_LATE = "the evaluation took longer than {:g} s (timeout_s), and its process was ended"
_DEAD = "the evaluating process died in each of {} attempts"


def _failed(error: str) -> Measurement:
    return Measurement(error=error, epochs=0)


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
    workers = _workers(config, recipe.crew)
    fixed = 1 if recipe.epochs else config.batch
    sizes = BatchSize(workers, startup, fixed)
    first = min(math.ceil((study.trials - study.told) / (fixed or 1)), space.size())
    gate = ray.remote(num_cpus=0)(StartBarrier).remote(min(workers, first))
    watch = None if config.timeout_s is None else ray.remote(num_cpus=0)(EvaluationTimeout).remote()
    task = {
        "gate": gate,
        "watch": watch,
        "timeout_s": config.timeout_s,
        "recipe": recipe,
        "space": replace(space, violation=None),  # a worker only reads architectures
        "goals": study.goals,
        "budget": Budget(epochs=recipe.epochs),
        "seed": study.seed,
    }
    resources: dict[str, float] = {"cpu": config.cpus_per_worker, "gpu": config.gpus_per_worker}
    if recipe.crew is not None:  # the worker itself only waits; a trial must take something
        resources = {"memory": 1}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(SubnetEvaluator, task=task), resources),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, space, sizes, progress, watch, config.timeout_s),
            scheduler=_scheduler(recipe),
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
    try:
        with _quiet(), own_sigint():
            tuner.fit()
    finally:
        helpers: list[Any] = [gate, watch]
        for helper in helpers:
            if helper is not None:  # what Tune keeps of the task would keep its process alive
                ray.kill(helper)
        if recipe.crew is not None:
            recipe.crew.clear()
    if study.failure is not None:
        raise SearchFailed(study.failure)
    if not study.finished:
        raise Interrupted


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what Tune says of processes that died: the table says whose these were."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _scheduler(recipe: Recipe) -> AsyncHyperBandScheduler | None:
    """Return what stops weak trainings; None lets all of them end."""
    stopping: SuccessiveHalving | None = recipe.stopping
    if stopping is None:
        return None
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=recipe.epochs,
        grace_period=stopping.grace_epochs,
        reduction_factor=stopping.reduction_factor,
    )


def _workers(config: RayConfig, crew: TrainingGroup | None) -> int:
    """Return how many workers run at a time: as many as are asked for and fit.

    On a cluster that was reached by its address, more may be asked for than fit now: they begin
    when its nodes come, for which Ray's autoscaler looks at what waits.

    Raises:
        ValueError: not even one worker, or one crew, fits now.
    """
    each: dict[str, float] = {"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker}
    if crew is not None:
        each = crew.resources
    ranks = 1 if crew is None else crew.ranks
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit = sum(_fitting(node, each) for node in nodes) // ranks
    if fit < 1:
        takes = " and ".join(f"{share:g} {name}" for name, share in each.items() if share)
        has = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
        what = "cpus_per_worker: a worker" if crew is None else f"train_workers: {ranks} processes"
        raise ValueError(f"{what} of {takes} each: too much for the nodes of the cluster ({has})")
    asked = config.workers or fit
    return asked if crew is None and address_of(config) else min(fit, asked)


def _fitting(node: dict[str, float], each: dict[str, float]) -> int:
    """Return how many processes fit a node; none is spread over several."""
    shares = ((node.get(name, 0.0), share) for name, share in each.items() if share)
    return min(int(has / share + 1e-9) for has, share in shares)  # 1 / 0.1 is not 9


def pickled(value: object) -> bytes:
    """Return a value pickled as Ray does it, classes of the user's script included."""
    return ray.cloudpickle.dumps(value)  # type: ignore[no-any-return]


def share(value: object) -> ray.ObjectRef[Any]:
    """Put a value into the object store, once a node however many workers read it."""
    return ray.put(value)
