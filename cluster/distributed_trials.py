"""Subnets that several ranks train together: a Ray Train job beside every evaluating process.

The job is given one order after another, since its start takes seconds, and asks for leave to go on
after every epoch, since weak trainings are stopped.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any, NoReturn

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer

from raynas.cluster.lost_processes import GONE, cause, could_not_start, lost_processes
from raynas.cluster.nodes import is_any_lost, on_this_node, this_node
from raynas.cluster.train_storage import storage_of
from raynas.cluster.training_group import TrainingGroup
from raynas.cluster.work_queue import WorkQueue
from raynas.cluster.worker_death import NODE_LOST, RANK_LOST
from raynas.core.arch import Arch
from raynas.core.evaluator import Described, Measurement, describe
from raynas.evaluators.loaded import Loaded
from raynas.evaluators.networks import MakeNetworkEvaluator, Networks, NetworkTrainer, keeping
from raynas.evaluators.standalone import Standalone
from raynas.storage.run_folder import Folder

train_v2: Any = ray.train  # whose types are those of its first version


class ProcessLost(RuntimeError):
    """A process of a training died; Ray's own exception would say that of the evaluating one."""


class DistributedTrainer(NetworkTrainer):
    """Has one network after another trained by a Ray Train job of its own.

    ``train_epochs`` runs on every rank, in a torch process group; the first rank's metrics count.
    A training that fails ends the job, and the next one starts another.

    Args:
        make: holds the training evaluator, the space and the data.
        group: who trains.
        failed: told of a training that failed, before its job is ended, which takes seconds.
    """

    def __init__(
        self, make: MakeNetworkEvaluator, group: TrainingGroup, failed: Callable[[Arch], None]
    ) -> None:
        data = Loaded(make.data, torch.device("cpu"))
        super().__init__(make.evaluator, make.model_space, data, make.epochs)
        self._pickled, self._group = ray.cloudpickle.dumps(make), group
        self._failed = failed
        self._batch_size = batch_size_of(make)
        self._queue: Any = None
        self._job: threading.Thread | None = None
        self._failure: Exception | None = None  # of the job
        self._lost: ProcessLost | None = None  # a process, whose training is to be tried again

    def ready(self) -> None:
        """Return when all ranks wait for an order; the job is started if there is none."""
        with suppress(*GONE):
            if self._job is not None and ray.get(self._queue.ready.remote()):
                return
        self.close()
        queue: Any = ray.remote(WorkQueue)
        ranks = self._group.ranks(self._batch_size)
        self._queue = queue.options(num_cpus=0, scheduling_strategy=on_this_node()).remote(ranks)
        self._failure = None
        self._job = threading.Thread(target=self._run, args=(self._queue, ranks), daemon=True)
        self._job.start()
        with suppress(*GONE):  # the order says so again
            ray.get(self._queue.ready.remote())

    def by_epoch(self, arch: Arch, seed: int) -> Generator[Measurement, None, None]:
        """Yield a measurement per epoch.

        Raises:
            ProcessLost: a process was lost, which says nothing of the architecture.
        """
        self._lost = None
        with closing(super().by_epoch(arch, seed)) as epochs:
            for measurement in epochs:
                if self._lost is not None:
                    raise self._lost
                yield measurement

    def rounds(self, arch: Arch, seed: int) -> Generator[Mapping[str, float], None, None]:
        """Yield what the first rank measures after every epoch.

        Raises:
            Described: a rank failed; the message is its own.
            ProcessLost: a process was lost.
        """
        try:
            self.ready()
            ray.get(
                self._queue.submit.remote((arch.to_json(), seed))
            )  # a refusal comes as a result
            while (answer := ray.get(self._queue.next_result.remote())) is not None:
                if isinstance(answer, str):
                    self._failed(arch)
                    self._fail(answer)
                go = False
                try:
                    yield answer
                    go = True
                finally:
                    self._queue.go_on.remote(go)
        except (ProcessLost, *GONE) as lost:
            self._lost = ProcessLost(describe(lost))
            self.close()
            raise

    def close(self) -> None:
        """End the job."""
        job, self._job = self._job, None
        if job is not None:
            with suppress(*GONE):
                ray.get(self._queue.submit.remote(None))
                job.join()
            ray.kill(self._queue)

    def _fail(self, text: str) -> NoReturn:
        """Raise what a rank said, unless it missed another one, or the job ended by itself."""
        nodes = ray.get(self._queue.nodes.remote())
        self.close()
        failure = self._failure
        if failure is not None and not (lost_processes(failure) or could_not_start(failure)):
            raise Described(text)
        if is_any_lost(nodes):
            raise ProcessLost(NODE_LOST)
        raise ProcessLost(f"{RANK_LOST}: {text if failure is None else cause(failure)}")

    def _run(self, queue: Any, ranks: int) -> None:
        self._group.keys.remember()
        name, storage = f"subnets-{uuid.uuid4().hex[:8]}", Folder(self._group.storage)
        # orders are not repeated by Ray; where fewer ranks would do, a start is not waited for
        waits = ranks == self._group.least
        failures: Any = train_v2.FailureConfig(
            max_preemption_failures=0, controller_failure_limit=-1 if waits else 0
        )
        trainer = TorchTrainer(
            _rank,
            train_loop_config={
                "queue": queue,
                "pickled": self._pickled,
                "threads": self._group.cpus,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=ranks,
                use_gpu=self._group.gpus > 0,
                resources_per_worker=self._group.resources,
            ),
            run_config=ray.train.RunConfig(
                name=name, **storage_of(storage.path), failure_config=failures
            ),
        )
        outcome = "the training job ended, since nobody let it go on"
        try:
            trainer.fit()
        except Exception as failure:
            # a rank that could has said more; what a lost process did not say is said here
            outcome, self._failure = f"the training job failed: {describe(failure)}", failure
        finally:
            queue.over.remote(outcome)
            storage.remove(name)


def batch_size_of(make: MakeNetworkEvaluator) -> int:
    """Return the size of a training's batches, as far as it is known here: else the data's own."""
    own = make.evaluator.settings.batch_size if isinstance(make.evaluator, Standalone) else None
    return own or make.data.batch_size


def _rank(given: dict[str, Any]) -> None:
    """Train one ordered network after another, as one rank of several."""
    torch.set_num_threads(given["threads"])
    queue, rank = given["queue"], ray.train.get_context().get_world_rank()
    ray.get(queue.begin.remote(this_node()))
    try:
        make: MakeNetworkEvaluator = ray.cloudpickle.loads(given["pickled"])
        gpu = torch.cuda.is_available() and ray.train.torch.get_device().type == "cuda"
        device = ray.train.torch.get_device() if gpu else torch.device("cpu")
        data = Loaded(make.data, device)
        networks = Networks(make.model_space, data)
        while (order := ray.get(queue.next_order.remote(rank))) is not None:
            arch, seed = Arch.from_json(order[0]), order[1]
            net = networks.build(arch, seed)
            rounds = make.evaluator.train_epochs(net, data, seed)
            if rank == 0 and make.weights is not None:
                rounds = keeping(rounds, make.epochs, partial(make.weights.keep, arch, net, seed))
            for metrics in rounds:
                if rank == 0:
                    ray.get(queue.put_result.remote(dict(metrics)))
                if not ray.get(queue.goes_on.remote(rank)):
                    break
            else:
                if rank == 0:
                    ray.get(queue.put_result.remote(None))
    except Exception as error:
        ray.get(queue.put_result.remote(describe(error)))
        raise
