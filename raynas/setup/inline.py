"""A search in the calling process, without Ray: for breakpoints in an evaluator or a model.

Files, their order and errors are those of one Ray worker with batches of one.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from raynas.core.archspace import ArchSpace
from raynas.core.config import RayConfig
from raynas.core.errors import SearchFailed
from raynas.core.evaluator import Budget, Evaluator, Measurement, describe
from raynas.core.halving import Rungs
from raynas.core.locations import under
from raynas.core.objectives import MissingObjective
from raynas.core.progress import Progress
from raynas.core.study import Asked, Study
from raynas.evaluators.spec import EvaluatorSpec, Worker
from raynas.nn.threads import torch_threads
from raynas.storage.local_copies import local_checkpoint
from raynas.storage.training_record import TrainingRecord
from raynas.supernet.train_job import TrainJob


class InlineRunner:
    """Trains and evaluates in this process, one thing after another.

    Args:
        config: threads, and whether there is a GPU to use.
    """

    def __init__(self, config: RayConfig) -> None:
        self.config = config

    def train(self, job: TrainJob, out: str, progress: Progress) -> None:
        """Train by the loop that a Ray Train worker runs."""
        from raynas.supernet.checkpoint import WEIGHTS, checkpoint_in

        progress.phase("training")
        threads = self.config.cpus_per_train_worker or max((os.cpu_count() or 1) - 1, 1)
        device = torch.device("cuda") if self.config.gpus_per_train_worker else None
        record = TrainingRecord(out, job.folder, job.columns, last=WEIGHTS)

        def report(row: dict[str, Any], saved: Path | None) -> None:
            record.add(row, saved)
            progress.trained(row, job.epochs)

        checkpoint = checkpoint_in(local_checkpoint(under(out, job.folder)))
        with torch_threads(threads):
            job.run(report, device=device, checkpoint=checkpoint)

    def run_study(
        self,
        study: Study,
        space: ArchSpace,
        spec: EvaluatorSpec,
        out: str,
        progress: Progress,
    ) -> None:
        """Evaluate a study's architectures one by one."""
        if study.finished or study.trials <= study.told:
            return
        progress.phase("starting the evaluator")
        with self.evaluator(spec) as evaluator:
            _evaluate(study, evaluator, spec, progress)
        if study.failure is not None:
            raise SearchFailed(study.failure)

    @contextmanager
    def evaluator(self, spec: EvaluatorSpec) -> Iterator[Evaluator]:
        """Make an evaluator, and close it at the end.

        Raises:
            SearchFailed: it cannot be made.
        """
        config = self.config
        worker = Worker(
            threads=config.cpus_per_worker, gpu=config.gpus_per_worker > 0, weights=spec.weights
        )
        with torch_threads(config.cpus_per_worker):
            try:
                evaluator = spec.make(worker)
            except Exception as error:
                raise SearchFailed(f"the evaluator cannot be made: {describe(error)}") from error
            with closing(evaluator):
                yield evaluator


def _evaluate(study: Study, evaluator: Evaluator, spec: EvaluatorSpec, progress: Progress) -> None:
    rungs = None if spec.stopping is None else Rungs(spec.stopping, spec.epochs)
    node, process = platform.node(), str(os.getpid())
    while (asked := study.ask()) is not None:
        found = evaluated(study, asked, evaluator, spec, rungs)
        study.tell([(asked, found)], node=node, worker=process)
        progress.told(study)
    progress.told(study)  # that the space held no more is known only now


def evaluated(
    study: Study,
    asked: Asked,
    evaluator: Evaluator,
    spec: EvaluatorSpec,
    rungs: Rungs | None = None,
) -> Measurement:
    """Return what the evaluation of an architecture gives.

    Args:
        study: that asked for it.
        asked: the architecture.
        evaluator: of ``spec``.
        spec: says whether the evaluator trains.
        rungs: stop weak trainings; None lets all of them end.
    """
    if spec.epochs:
        return _trained(study, asked, evaluator, rungs)
    (found,) = evaluator([asked.arch], Budget(), study.seed)
    return found


def _trained(study: Study, asked: Asked, evaluator: Evaluator, rungs: Rungs | None) -> Measurement:
    """Train an architecture to the end, or until it is stopped; return its last measurement."""
    evaluator.ready()
    last = Measurement(error="the training yielded nothing", epochs=0)
    with closing(evaluator.by_epoch(asked.arch, study.seed)) as epochs:
        for measured in epochs:
            last = study.goals.checked(measured)
            if last.error is not None:
                break
            if rungs is None or last.epochs is None:
                continue
            try:
                score = study.goals.merged(last.metrics)
            except MissingObjective:  # the study says so
                continue
            if not rungs.goes_on(asked.number, last.epochs, score):
                break
    return last
