"""A training in processes of its own, which goes on with those that are left when some are lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer

from raynas.cluster.connect import address_of
from raynas.cluster.lost_processes import GONE, cause, could_not_start, lost_processes
from raynas.cluster.resources import even_cpus, processes_that_fit, too_large
from raynas.cluster.train_snapshot import drop_unsound_snapshot
from raynas.cluster.train_storage import storage_of
from raynas.cluster.training_rank import TrainingRank, run_rank
from raynas.core.config import RayConfig
from raynas.core.errors import Interrupted
from raynas.core.locations import under
from raynas.core.progress import Progress
from raynas.storage.file_systems import known_keys
from raynas.storage.local_copies import local_checkpoint
from raynas.storage.run_folder import Folder
from raynas.supernet.checkpoint import checkpoint_in, load_about
from raynas.supernet.train_job import TrainJob

train_v2: Any = ray.train  # whose types are those of its first version
MOST_LOSSES = 5  # one after the other, without a checkpoint in between


class RankedTraining:
    """A training in worker processes: one Ray Train job after another, until it is over.

    Every job goes on from the newest checkpoint with as many ranks as fit then. A job ends early
    when a process is lost, and at a checkpoint once there is room for more ranks. An error of the
    training itself is final.

    Differs: ``ScalingConfig(num_workers=(1, 4))`` of Ray Train would choose numbers that the batch
    does not divide by, end epochs in the middle, and repeat errors as often as losses.

    Args:
        job: what to train.
        out: folder or URI.
        config: what ranks take.
        counts: how many ranks there may be, rising.
    """

    def __init__(self, job: TrainJob, out: str, config: RayConfig, counts: Sequence[int]) -> None:
        self._job, self._out, self._config, self._counts = job, out, config, list(counts)
        self._threads = _cpus_each(config)
        each = {"CPU": float(self._threads), "GPU": config.gpus_per_train_worker}
        self._each = {name: share for name, share in each.items() if share}

    def run(self, progress: Progress) -> None:
        """Train to the end.

        Raises:
            ValueError: the ranks do not fit this machine.
            RuntimeError: training failed, or lost its processes again and again.
            Interrupted: Ctrl-C.
        """
        losses, done, most = 0, self._epochs_done(), max(self._counts)
        while True:
            ranks = self._ranks(most, progress)
            try:
                if self._attempt(ranks):
                    return
                news, most = "there is room for more training processes", max(self._counts)
            except (ray.train.TrainingFailedError, *GONE) as failure:
                if ranks > min(self._counts) and could_not_start(failure):
                    most = max(count for count in self._counts if count < ranks)
                    news = f"{ranks} training processes did not start"
                else:
                    most = max(self._counts)
                    lost = self._lost(failure)
                    losses = losses + 1 if self._epochs_done() == done else 1
                    if losses == MOST_LOSSES:
                        raise RuntimeError(
                            f"{self._job.title} failed: processes were lost {losses} times before "
                            f"the next checkpoint; the last time: {cause(failure)}"
                        ) from failure
                    news = f"{lost} training processes were lost"
                    news = "a training process was lost" if lost == 1 else news
            done = self._epochs_done()
            progress.phase(f"{news}; going on from epoch {done + 1} with {self._shares(most)}")

    def _attempt(self, ranks: int) -> bool:
        """Run one job, and return whether the training is over."""
        drop_unsound_snapshot(Folder(under(self._out, self._job.folder)))
        try:
            result: Any = self._trainer(ranks).fit()
        except SystemExit:  # what Ray Train makes of Ctrl-C
            raise Interrupted from None
        if result.checkpoint is None:
            raise RuntimeError(f"{self._job.title} left no checkpoint")
        return bool(result.return_value)

    def _trainer(self, ranks: int) -> TorchTrainer:
        rank = TrainingRank(
            job=self._job,
            out=self._out,
            threads=self._threads,
            keeps=False,
            keys=known_keys(),
            counts=self._counts,
            each=self._each,
        )
        # losses are dealt with here; where fewer ranks would do, a start is not waited for
        waits = ranks == min(self._counts)
        failures: Any = train_v2.FailureConfig(
            max_failures=0, max_preemption_failures=0, controller_failure_limit=-1 if waits else 0
        )
        return TorchTrainer(
            run_rank,
            train_loop_config={"rank": rank},
            scaling_config=ray.train.ScalingConfig(
                num_workers=ranks,
                use_gpu=self._config.gpus_per_train_worker > 0,
                resources_per_worker=self._each,
            ),
            run_config=ray.train.RunConfig(
                name=self._job.folder,
                **storage_of(self._out),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
                failure_config=failures,
            ),
        )

    def _ranks(self, most: int, progress: Progress) -> int:
        """Return how many ranks fit now; where too few do and nodes may come, say what for.

        Raises:
            ValueError: too few fit this machine.
        """
        fitting = self._fitting(most)
        if fitting is not None:
            return fitting
        ranks = min(self._counts)
        what = f"train_workers: {ranks} process{'es' * (ranks > 1)}"
        if address_of(self._config) is None:
            raise too_large(what, self._each)
        takes = " and ".join(f"{share:g} {name}" for name, share in self._each.items())
        progress.phase(f"waiting for nodes that take {ranks} training processes of {takes} each")
        return ranks

    def _fitting(self, most: int) -> int | None:
        """Return the greatest number of ranks that fits; None if too few do."""
        fit = min(processes_that_fit(self._each), most)
        return max((count for count in self._counts if count <= fit), default=None)

    def _shares(self, most: int) -> str:
        """Return how many ranks there will be, of how many."""
        return f"{self._fitting(most) or min(self._counts)} of {max(self._counts)}"

    def _lost(self, failure: Exception) -> int:
        """Return how many processes were lost.

        Raises:
            RuntimeError: none was; the training itself failed.
        """
        lost = lost_processes(failure)
        if not lost:
            raise RuntimeError(f"{self._job.title} failed: {cause(failure)}") from failure
        return lost

    def _epochs_done(self) -> int:
        """Return how many epochs the newest checkpoint has, those of earlier phases included."""
        checkpoint = checkpoint_in(local_checkpoint(under(self._out, self._job.folder)))
        if checkpoint is None:
            return 0
        about: dict[str, Any] = load_about(checkpoint)
        return int(about["epoch"]) + self._job.epochs - int(about["epochs"])


def _cpus_each(config: RayConfig) -> int:
    each = even_cpus(config.max_train_workers, config.gpus_per_train_worker)
    return config.cpus_per_train_worker or each
