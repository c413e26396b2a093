"""The search loop as a Ray Tune run: workers, their task, and what stops weak trainings."""

from __future__ import annotations

import logging
import math
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from raynas.cluster.connect import address_of, own_sigint, scratch
from raynas.cluster.nodes import on_this_node
from raynas.cluster.packing import packed
from raynas.cluster.resources import processes_that_fit, too_large
from raynas.cluster.searcher import StudySearcher
from raynas.cluster.start_barrier import StartBarrier
from raynas.cluster.timeout import EvaluationTimeout
from raynas.cluster.training_group import TrainingGroup, training_group
from raynas.cluster.worker import SubnetEvaluator, Task
from raynas.cluster.worker_record import WorkerRecords
from raynas.core.archspace import ArchSpace
from raynas.core.batching import BatchSize
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted, SearchFailed
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.core.temporary import temporary_folder
from raynas.evaluators.spec import EvaluatorSpec


def run_study(
    study: Study,
    space: ArchSpace,
    spec: EvaluatorSpec,
    out: str,
    config: RayConfig,
    progress: Progress,
) -> None:
    """Evaluate until the study has what it asks for.

    Args:
        study: asks and is told.
        space: of its architectures.
        spec: of the evaluator that every worker makes.
        out: run folder.
        config: how many workers, and on what.
        progress: told after every batch.

    Raises:
        OSError: what was told cannot be written.
        TypeError: the evaluator cannot be pickled.
        SearchFailed: the objective is not among the metrics, or no evaluator can be made.
        ValueError: memory is limited where a job of its own trains each architecture.
        Interrupted: Ctrl-C; what was told is on disk.
    """
    if study.finished or study.trials <= study.told:
        return
    sent = packed(spec)
    group = training_group(spec, config, out)
    workers = _workers(config, group)
    group = group and replace(group, groups=workers)
    fixed = 1 if spec.epochs else config.batch
    first = min(math.ceil((study.trials - study.told) / (fixed or 1)), space.size())
    records = WorkerRecords()
    with _helpers(min(workers, first), config) as (barrier, timeout):
        task = Task(
            spec=sent,
            weights=[] if spec.weights is None else [ray.put(spec.weights)],
            arch_space=replace(space, violation=None),  # a worker only reads architectures
            goals=study.goals,
            seed=study.seed,
            epochs=spec.epochs,
            barrier=barrier,
            threads=config.cpus_per_worker,
            gpu=config.gpus_per_worker > 0,
            group=group,
            timeout=timeout,
            timeout_s=config.timeout_s,
            memory_gb=config.memory_gb,
            records=records,
        )
        searcher = StudySearcher(
            study,
            space,
            BatchSize(workers, study.startup, fixed),
            progress,
            config,
            timeout,
            records.place,
        )
        try:
            with temporary_folder(scratch("tune")) as folder:
                _fit(_tuner(task, searcher, spec, config, workers, folder))
        except Exception:
            if searcher.failure is not None:  # Tune's own would say nothing of it
                raise searcher.failure from None
            raise
        finally:
            records.clear()
            if group is not None:
                group.clear()
    if study.failure is not None:
        raise SearchFailed(study.failure)
    if not study.finished:
        raise Interrupted
    progress.told(study)  # that the space held no more is known only now


@contextmanager
def _helpers(first: int, config: RayConfig) -> Iterator[tuple[StartBarrier, Any]]:
    """Make the barrier of the first workers, and the timeout if there is a limit."""
    barrier = StartBarrier(first)
    limited = config.timeout_s is not None
    timeout: Any = None
    try:
        if limited:
            actor: Any = ray.remote(EvaluationTimeout)
            timeout = actor.options(num_cpus=0, scheduling_strategy=on_this_node()).remote()
            ray.get(timeout.ready.remote())
        yield barrier, timeout
    finally:
        barrier.clear()
        if timeout is not None:  # what Tune keeps of the task would keep its process alive
            ray.kill(timeout)


def _tuner(
    task: Task,
    searcher: StudySearcher,
    spec: EvaluatorSpec,
    config: RayConfig,
    workers: int,
    folder: Path,
) -> tune.Tuner:
    resources: dict[str, float] = {"cpu": config.cpus_per_worker, "gpu": config.gpus_per_worker}
    if task.group is not None:  # the worker itself only waits; a trial must take something
        resources = {"memory": 1}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(SubnetEvaluator, task=task), resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(spec),
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex[:8],
            storage_path=str(folder),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[searcher.trials],
            verbose=0,
        ),
    )


def _fit(tuner: tune.Tuner) -> None:
    """Run Tune, without what it says of processes that died: the table says whose these were."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), own_sigint():
            warnings.simplefilter("ignore")
            tuner.fit()
    finally:
        logger.setLevel(before)


def _scheduler(spec: EvaluatorSpec) -> AsyncHyperBandScheduler | None:
    """Return what stops weak trainings; None lets all of them end."""
    if spec.stopping is None:
        return None
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=spec.epochs,
        grace_period=spec.stopping.grace_epochs,
        reduction_factor=spec.stopping.reduction_factor,
    )


def _workers(config: RayConfig, group: TrainingGroup | None) -> int:
    """Return how many workers run at a time: as many as are asked for and fit.

    On a cluster that was reached by its address, more may be asked for than fit now: they, or the
    ranks that train for them, begin when its nodes come, for which Ray's autoscaler looks at what
    waits.

    Raises:
        ValueError: not even one worker, or one training group, fits now.
    """
    each: dict[str, float] = {"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker}
    if group is not None:
        each = group.resources
    ranks = 1 if group is None else group.least
    fit = processes_that_fit(each) // ranks
    if fit < 1:
        what = "cpus_per_worker: a worker" if group is None else f"train_workers: {ranks} processes"
        raise too_large(what, each)
    asked = config.workers or fit
    return asked if address_of(config) else min(fit, asked)
