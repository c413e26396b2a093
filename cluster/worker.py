"""A worker process of a search: it outlives its Tune trials."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from raynas.cluster.memory_limit import OVER_MEMORY, MemoryLimit, end_if_out_of_files
from raynas.cluster.start_barrier import StartBarrier
from raynas.cluster.training_group import TrainingGroup
from raynas.cluster.worker_record import WorkerRecord, WorkerRecords
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.evaluator import Budget, Evaluator, Measurement, describe, failed
from raynas.core.goals import Goals
from raynas.core.objectives import MissingObjective
from raynas.evaluators.spec import EvaluatorSpec, Worker
from raynas.storage.file_systems import Keys, known_keys

if TYPE_CHECKING:
    from raynas.evaluators.networks import MakeNetworkEvaluator


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every worker of a study is given.

    Attributes:
        spec: of the evaluator, without its weights, pickled by Ray.
        arch_space: reads packed architectures.
        goals: merge an epoch's metrics into the score that stops trainings.
        seed: of the study.
        epochs: of each training; 0 if none is trained.
        barrier: lets the first workers begin together.
        threads: of torch.
        gpu: whether a worker is given one.
        group: trains each architecture; None if the worker does it alone.
        timeout: ends evaluations that take too long; None without a limit.
        timeout_s: the limit.
        memory_gb: limit of a worker; None sets none.
        records: where workers note how they end; None leaves no notes.
        weights: references to the evaluator's weights in the object store, at most one; in a list,
            since Ray would fetch a bare one before the worker asks for it.
        keys: that open the object stores of the process that began the study.
    """

    spec: bytes
    arch_space: ArchSpace
    goals: Goals
    seed: int
    epochs: int
    barrier: StartBarrier
    threads: int = 1
    gpu: bool = False
    group: TrainingGroup | None = None
    timeout: Any = None
    timeout_s: float | None = None
    memory_gb: float | None = None
    records: WorkerRecords | None = None
    weights: list[Any] = field(default_factory=list)
    keys: Keys = field(default_factory=known_keys)

    def make(self) -> Evaluator:
        """Return a worker's evaluator; torch, data and weights are loaded here."""
        self.keys.remember()
        spec: EvaluatorSpec = ray.cloudpickle.loads(self.spec)
        weights = [ray.get(reference) for reference in self.weights]
        return spec.make(
            Worker(
                threads=self.threads,
                gpu=self.gpu,
                weights=weights[0] if weights else None,
                distributed=None if self.group is None else partial(self._distributed, self.group),
            )
        )

    def in_time(self, arch: Arch) -> None:
        """Note that an evaluation is over, whatever its process has to do besides."""
        if self.timeout is not None:
            self.timeout.over.remote(self.arch_space.pack(arch))

    def _distributed(self, group: TrainingGroup, make: MakeNetworkEvaluator) -> Evaluator:
        from raynas.cluster.distributed_trials import DistributedTrainer

        return DistributedTrainer(make, group, self.in_time)


def _next(epochs: Generator[Measurement, None, None]) -> Measurement:
    try:
        return next(epochs)
    except KeyboardInterrupt as interrupt:  # an evaluator's own: Ctrl-C does not come here
        return failed(interrupt)


class SubnetEvaluator(tune.Trainable):
    """A worker process that measures one batch of architectures per Tune trial.

    It makes its evaluator in the first ``step`` and not in ``setup``, so that slow starts are not
    cancelled (see ``StartBarrier``). Where the evaluator trains, a batch is one architecture and a
    step is one epoch, so that Tune can stop it after any.
    """

    def setup(self, config: dict[str, Any], task: Task | None = None) -> None:
        """Keep the task; nothing is loaded yet."""
        assert task is not None
        self._task = task
        self._evaluator: Evaluator | None = None
        self._epochs: Generator[Measurement, None, None] | None = None
        self._spent_s = 0.0
        self._record: WorkerRecord | None = None
        self._memory: MemoryLimit | None = None

    def step(self) -> dict[str, Any]:
        """Measure the batch that the trial's config names, or train it for one more epoch."""
        if self._evaluator is None:
            self._task.barrier.arrive(self.trial_id)
            try:
                self._evaluator = self._made()
            except BaseException as error:
                return {"done": True, "broken": describe(error)}
        packed = self.config["archs"].split()
        if self._task.epochs:
            return self._epoch(self._evaluator, *packed)
        alone = (self._task.timeout_s, self._task.memory_gb) != (None, None)  # each has its own
        batches = [[text] for text in packed] if alone else [packed]
        measured = [m for batch in batches for m in self._measured(self._evaluator, batch)]
        return self._answer(measured, done=True)

    def _made(self) -> Evaluator:
        """Return the evaluator, in a process that notes how it ends and has its limits."""
        task = self._task
        if task.records is not None:
            self._record = task.records.begin()
        evaluator = task.make()
        if task.memory_gb is not None and self._record is not None:
            self._memory = MemoryLimit(task.memory_gb, self._record, rlimit=not task.gpu)
        return evaluator

    def _measured(self, evaluator: Evaluator, packed: list[str]) -> list[Measurement]:
        archs = [self._task.arch_space.unpack(text) for text in packed]
        try:
            with self._limited(packed[0]):
                measured = evaluator(archs, Budget(), self._task.seed)
        except KeyboardInterrupt as interrupt:  # an evaluator's own: Ctrl-C does not come here
            if len(packed) > 1:
                return [each for text in packed for each in self._measured(evaluator, [text])]
            measured = [failed(interrupt)]
        return [self._checked(measurement) for measurement in measured]

    def _checked(self, measured: Measurement) -> Measurement:
        """Return what was measured, if this process had what it takes; else it ends, or says so."""
        if measured.error is None:
            return measured
        if self._record is not None:
            end_if_out_of_files(measured.error, self._record)
        if self._memory is not None and self._memory.is_over(measured.error):
            return replace(measured, error=OVER_MEMORY.format(self._task.memory_gb))
        return measured

    def _epoch(self, evaluator: Evaluator, packed: str) -> dict[str, Any]:
        if self._epochs is None:
            evaluator.ready()  # the start of its job counts for no architecture
            arch = self._task.arch_space.unpack(packed)
            self._epochs, self._spent_s = evaluator.by_epoch(arch, self._task.seed), 0.0
        with self._limited(packed):
            measured = self._task.goals.checked(self._checked(_next(self._epochs)))
        self._spent_s = measured.duration_s
        done = measured.error is not None or measured.epochs == self._task.epochs
        if done:  # no trial may follow, and others may wait for what the training holds
            self._stop()
        answer = self._answer([measured], done)
        with contextlib.suppress(MissingObjective):  # the study says so
            if measured.error is None:
                score = self._task.goals.merged(measured.metrics)
                answer |= {"epoch": measured.epochs, "score": score}
        return answer

    def _answer(self, measured: list[Measurement], done: bool) -> dict[str, Any]:
        text = json.dumps([asdict(measurement) for measurement in measured])
        return {"done": done, "measured": text, "worker": str(os.getpid())}

    @contextmanager
    def _limited(self, arch: str) -> Iterator[None]:
        """Let this process be ended if what is done inside takes too long, or too much."""
        if self._memory is not None:
            self._memory.begin(arch)
        limit_s, timeout = self._task.timeout_s, self._task.timeout
        if limit_s is None:
            yield
            return
        me = ray.get_runtime_context().current_actor
        timeout.began.remote(arch, me, max(limit_s - self._spent_s, 0.0))
        try:
            yield
        finally:
            timeout.over.remote(arch)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial's batch."""
        self._stop()
        self.config, self._spent_s = new_config, 0.0
        return True

    def cleanup(self) -> None:
        """End what the evaluator has started."""
        self._stop()
        if self._evaluator is not None:
            self._evaluator.close()
        if self._memory is not None:
            self._memory.close()
        if self._record is not None:
            self._record.close()

    def _stop(self) -> None:
        """End a training that was stopped before its last epoch."""
        if self._epochs is not None:
            self._epochs.close()
        self._epochs = None
