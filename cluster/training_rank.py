"""What one rank of a training does; the loop itself knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from raynas.cluster.resources import room_for
from raynas.core.locations import under
from raynas.storage.file_systems import Keys
from raynas.storage.local_copies import forget_copies, local_checkpoint
from raynas.storage.training_record import TrainingRecord
from raynas.supernet.checkpoint import WEIGHTS, checkpoint_in
from raynas.supernet.distributed import ProcessGroup, shared_equally
from raynas.supernet.train_job import TrainJob


class MoreRanks(Exception):
    """Ends a training at a checkpoint, from which more ranks are to go on."""


@dataclass(frozen=True, kw_only=True)
class TrainingRank:
    """What every rank is given.

    Attributes:
        job: what to train.
        out: folder, or URI, of what the job leaves.
        threads: of torch.
        keeps: whether checkpoints are kept here and not by Ray Train's controller.
        keys: that open object stores.
        counts: numbers of ranks that may go on with the training.
        each: resources of a rank.
    """

    job: TrainJob
    out: str
    threads: int
    keeps: bool
    keys: Keys
    counts: Sequence[int] = (1,)
    each: Mapping[str, float] = field(default_factory=dict)

    def run(self) -> bool:
        """Train; return whether it is over, and not to go on with more ranks."""
        torch.set_num_threads(self.threads)
        self.keys.remember()
        # the newest of all: one that was left by a training in this process is on no list of Ray's
        checkpoint = checkpoint_in(local_checkpoint(under(self.out, self.job.folder)))
        report = _Report(self)
        try:
            with shared_equally(self.counts):
                self.job.run(report, device=self._device(), checkpoint=checkpoint)
        except MoreRanks:
            return False
        finally:
            if not self.keeps:  # Ray ends the processes of its workers
                forget_copies()
        return True

    def _device(self) -> torch.device | None:
        if self.keeps or not torch.cuda.is_available():
            return None
        device = ray.train.torch.get_device()
        return device if device.type == "cuda" else None


def run_rank(given: dict[str, TrainingRank]) -> Any:  # a bool; Ray Train's types know none
    """Train on one rank and return whether that is over; what Ray Train calls."""
    return given["rank"].run()


class _Report:
    """Keeps rows on the first rank, and hands them to Ray Train, which keeps checkpoints of others.

    Args:
        rank: what it was given.
    """

    def __init__(self, rank: TrainingRank) -> None:
        self._rank, self._group, job = rank, ProcessGroup(), rank.job
        self._record: TrainingRecord | None = None
        if self._group.rank == 0:
            self._record = TrainingRecord(rank.out, job.folder, job.columns, last=WEIGHTS)

    def __call__(self, row: dict[str, Any], folder: Path | None) -> None:
        """Take an epoch's row and, where one is due on the first rank, its checkpoint.

        Raises:
            MoreRanks: on all of them, once there is room.
        """
        if self._record is not None:
            self._record.add(row, folder if self._rank.keeps else None)
        kept = None if folder is None else ray.train.Checkpoint.from_directory(folder)
        ray.train.report(row, checkpoint=kept)
        if self._group.world < max(self._rank.counts) and self._group.from_first(
            folder is not None and self._has_room(row)
        ):
            raise MoreRanks

    def _has_room(self, row: Mapping[str, Any]) -> bool:
        """Return whether there is something left to train, and room for more that would do it."""
        last = int(row["epoch"]) + 1 >= self._rank.job.epochs
        more = [count for count in self._rank.counts if count > self._group.world]
        return not last and room_for(self._rank.each, self._group.world, min(more))
