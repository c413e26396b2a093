"""Subnets that several ranks train together: a Ray Train job beside every evaluating process.

The job is given one order after another, since its start takes seconds, and asks for leave to go on
after every epoch, since weak trainings are stopped.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from typing import Any, NoReturn

import ray
import ray.train
import torch
from ray.exceptions import RayActorError
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raynas.cluster.work_queue import WorkQueue
from raynas.core.arch import Arch
from raynas.core.evaluator import Described, Measurement, describe
from raynas.evaluators.loaded import Loaded
from raynas.evaluators.networks import Networks, NetworkTrainer
from raynas.evaluators.training_group import TrainingGroup
from raynas.storage.run_folder import Folder


class ProcessLost(RuntimeError):
    """A process of a training died; Ray's own exception would say that of the evaluating one."""


class NestedTrainer(NetworkTrainer):
    """Has one network after another trained by a Ray Train job of its own.

    ``train_epochs`` runs on every rank, in a torch process group; the first rank's metrics count.
    A training that fails ends the job, and the next one starts another.

    Args:
        pickled: the training evaluator, the space and the data, pickled by Ray.
        networks: knows the costs.
        epochs: how many mappings of metrics ``train_epochs`` yields.
        crew: who trains.
    """

    def __init__(
        self, pickled: bytes, networks: Networks, epochs: int, crew: TrainingGroup
    ) -> None:
        self._pickled, self._networks, self._epochs, self._crew = pickled, networks, epochs, crew
        self._desk: Any = None
        self._job: threading.Thread | None = None
        self._failure: Exception | None = None  # of the job
        self._lost: ProcessLost | None = None  # a process, whose training is to be tried again

    def ready(self) -> None:
        """Return when all ranks wait for an order; the job is started if there is none."""
        with suppress(RayActorError):
            if self._job is not None and ray.get(self._desk.ready.remote()):
                return
        self.close()
        near = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        desk: Any = ray.remote(WorkQueue)
        self._desk = desk.options(num_cpus=0, scheduling_strategy=near).remote(self._crew.ranks)
        self._failure = None
        self._job = threading.Thread(target=self._run, args=(self._desk,), daemon=True)
        self._job.start()
        with suppress(RayActorError):  # the order says so again
            ray.get(self._desk.ready.remote())

    def by_epoch(self, arch: Arch, seed: int) -> Generator[Measurement, None, None]:
        """Yield a measurement per epoch.

        Raises:
            ProcessLost: a process was lost, which says nothing of the architecture.
        """
        self._lost = None
        with closing(super().by_epoch(arch, seed)) as epochs:
            for found in epochs:
                if self._lost is not None:
                    raise self._lost
                yield found

    def rounds(self, arch: Arch, seed: int) -> Generator[Mapping[str, float], None, None]:
        """Yield what the first rank measures after every epoch.

        Raises:
            Described: a rank failed; the message is its own.
            ProcessLost: a process was lost.
        """
        try:
            self.ready()
            ray.get(self._desk.order.remote((arch.to_json(), seed)))  # if not taken, it is told why
            while (told := ray.get(self._desk.told.remote())) is not None:
                if isinstance(told, str):
                    self._fail(told)
                go = False
                try:
                    yield told
                    go = True
                finally:
                    self._desk.leave.remote(go)
        except (ProcessLost, RayActorError) as lost:
            self._lost = ProcessLost(describe(lost))
            self.close()
            raise

    def close(self) -> None:
        """End the job."""
        job, self._job = self._job, None
        if job is not None:
            with suppress(RayActorError):
                ray.get(self._desk.order.remote(None))
                job.join()
            ray.kill(self._desk)

    def _fail(self, told: str) -> NoReturn:
        """Raise what a rank told, unless it missed another one, or the job ended by itself."""
        self.close()
        failure = self._failure
        if failure is None:
            raise ProcessLost(told)
        found = getattr(failure, "worker_failures", {0: failure}).values()
        for error in (getattr(one, "health_check_failure", one) for one in found):
            if isinstance(error, RayActorError):
                raise ProcessLost(describe(error))
        raise Described(told)

    def _run(self, desk: Any) -> None:
        name, storage = f"subnets-{uuid.uuid4().hex[:8]}", Folder(self._crew.storage)
        trainer = TorchTrainer(
            _rank,
            train_loop_config={"desk": desk, "pickled": self._pickled, "threads": self._crew.cpus},
            scaling_config=ray.train.ScalingConfig(
                num_workers=self._crew.ranks,
                use_gpu=self._crew.gpus > 0,
                resources_per_worker=self._crew.resources,
            ),
            run_config=ray.train.RunConfig(name=name, storage_path=storage.path),
        )
        said = "the training job ended, since nobody let it go on"
        try:
            trainer.fit()
        except Exception as failure:
            # a rank that could has said more; what a lost process did not say is said here
            said, self._failure = f"the training job failed: {describe(failure)}", failure
        finally:
            desk.over.remote(said)
            storage.remove(name)


def _rank(given: dict[str, Any]) -> None:
    """Train one ordered network after another, as one rank of several."""
    torch.set_num_threads(given["threads"])
    desk, rank = given["desk"], ray.train.get_context().get_world_rank()
    try:
        thing, space, data = ray.cloudpickle.loads(given["pickled"])
        gpu = torch.cuda.is_available() and ray.train.torch.get_device().type == "cuda"
        held = Loaded(data, ray.train.torch.get_device() if gpu else torch.device("cpu"))
        networks = Networks(space, held)
        while (order := ray.get(desk.ordered.remote(rank))) is not None:
            net = networks.build(Arch.from_json(order[0]), order[1])
            for metrics in thing.train_epochs(net, held, order[1]):
                if rank == 0:
                    ray.get(desk.tell.remote(dict(metrics)))
                if not ray.get(desk.left.remote(rank)):
                    break
            else:
                if rank == 0:
                    ray.get(desk.tell.remote(None))
    except Exception as error:
        ray.get(desk.tell.remote(describe(error)))
        raise
