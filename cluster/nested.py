"""Subnets that several ranks train together: a Ray Train job beside every evaluating process.

The job is given one order after another, since its start takes seconds, and asks for leave to go on
after every epoch, since weak trainings are stopped.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Generator, Mapping
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer

from raynas.cluster.crew import Crew
from raynas.cluster.evaluators import Networks, NetworkTrainer
from raynas.core.arch import Arch
from raynas.core.evaluator import Described, describe
from raynas.evaluators.loaded import Loaded
from raynas.folder import Folder

Order = tuple[str, int]  # an architecture as JSON, and a seed
Answer = dict[str, float] | str | None


class _Desk:
    """Where the evaluating process and the ranks meet."""

    def __init__(self, ranks: int) -> None:
        self._orders = [asyncio.Queue[Order | None]() for _ in range(ranks)]
        self._leaves = [asyncio.Queue[bool]() for _ in range(ranks)]
        self._answers = asyncio.Queue[Answer]()

    async def order(self, order: Order | None) -> None:
        """Ask for a training; None ends the job."""
        for queue in self._orders:
            queue.put_nowait(order)

    async def ordered(self, rank: int) -> Order | None:
        """Return a rank's next order; each asks for itself, and none waits in an exchange."""
        return await self._orders[rank].get()

    async def tell(self, told: Answer) -> None:
        """Hand over an epoch's metrics; text says what went wrong, None that there are no more."""
        self._answers.put_nowait(told)

    async def told(self) -> Answer:
        """Return what was handed over next."""
        return await self._answers.get()

    async def leave(self, go: bool) -> None:
        """Let the training go on, or end it."""
        for queue in self._leaves:
            queue.put_nowait(go)

    async def left(self, rank: int) -> bool:
        """Return whether a rank is to go on."""
        return await self._leaves[rank].get()


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

    def __init__(self, pickled: bytes, networks: Networks, epochs: int, crew: Crew) -> None:
        self._pickled, self._networks, self._epochs, self._crew = pickled, networks, epochs, crew
        self._desk: Any = None
        self._job: threading.Thread | None = None

    def rounds(self, arch: Arch, seed: int) -> Generator[Mapping[str, float], None, None]:
        """Yield what the first rank measures after every epoch.

        Raises:
            Described: a rank failed; the message is its own.
        """
        desk = self._running()
        ray.get(desk.order.remote((arch.to_json(), seed)))
        while (told := ray.get(desk.told.remote())) is not None:
            if isinstance(told, str):
                self.close()
                raise Described(told)
            go = False
            try:
                yield told
                go = True
            finally:
                ray.get(desk.leave.remote(go))

    def close(self) -> None:
        """End the job."""
        if self._job is not None:
            ray.get(self._desk.order.remote(None))
            self._job.join()
            ray.kill(self._desk)
            self._job = None

    def _running(self) -> Any:
        if self._job is None:
            self._desk = ray.remote(num_cpus=0)(_Desk).remote(self._crew.ranks)
            self._job = threading.Thread(target=self._run, args=(self._desk,), daemon=True)
            self._job.start()
        return self._desk

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
        try:
            trainer.fit()
        except Exception as failure:
            # a rank that could has said more; what a lost process did not say is said here
            desk.tell.remote(f"a training worker was lost: {describe(failure)}")
        finally:
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
