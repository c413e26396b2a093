"""A supernet's training as a job: from a checkpoint, or the start, to the last epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raynas.core.config import ComponentSpec
from raynas.core.fixed_list import FOUND
from raynas.core.train_settings import TrainSettings
from raynas.data.module import DataModule
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.attributes import read_attributes
from raynas.supernet.checkpoint import save_checkpoint
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.rebuilding import check_rebuilt
from raynas.supernet.snapshot import Snapshot
from raynas.supernet.train_job import (
    CHECKPOINT_S,
    Report,
    give_first_attributes,
    go_on,
    run_epochs,
)
from raynas.supernet.training import SupernetTraining


@dataclass(frozen=True, kw_only=True)
class SupernetJob:
    """What a training process needs to know.

    Attributes:
        space: builds the supernet.
        data: what it is trained on.
        algo: registered one-shot algorithm and its options.
        settings: of the weights' training.
        seed: fixes initial weights, paths and batches.
        about: joined to what the checkpoint says of itself.
        latency: table, as JSON, of latencies that take part in the algorithm's loss; None leaves
            that to the algorithm.
        initial: weights of an earlier training to begin with; None begins with new ones.
    """

    space: ModelSpace
    data: DataModule
    algo: ComponentSpec
    settings: TrainSettings
    seed: int
    about: dict[str, Any]
    latency: str | None = None
    initial: Snapshot | None = None


def run_job(
    job: SupernetJob,
    options: Mapping[str, Any],
    *,
    device: torch.device | None,
    checkpoint: Path | None,
    report: Report,
) -> None:
    """Train on one rank, and report every epoch.

    Args:
        job: what to train.
        options: the algorithm's, as this process needs them.
        device: that everything lives on; None is the CPU.
        checkpoint: folder to go on from; None starts anew.
        report: takes an epoch's row of the history and, where one is due on the first rank, the
            folder of a checkpoint, which lasts until it returns.
    """
    model = job.space.supernet(job.seed)
    if job.initial is not None:
        job.initial.write(model)
    give_first_attributes(model)
    training = SupernetTraining(
        model,
        ONE_SHOTS[job.algo.name](seed=job.seed, **options),
        job.data,
        job.settings,
        seed=job.seed,
        device=device,
        inherited=job.initial is not None or job.space.trained,
    )
    if checkpoint is not None:
        go_on(training, checkpoint)

    def save(folder: Path) -> None:
        _save(job, training, folder)

    run_epochs(training, training.run_epoch, save, report, every_s=CHECKPOINT_S)


def _save(job: SupernetJob, training: SupernetTraining, folder: Path) -> None:
    space = job.space.seeded(job.seed)
    attributes = read_attributes(training.model, space.skeleton())
    check_rebuilt(space, training.model, attributes, training.example)
    about = {
        **job.about,
        "seed": job.seed,
        "channels_last": training.channels_last,
        "epoch": training.epoch,
        "epochs": job.settings.epochs,
        "found": training.top_k(FOUND),
        "distribution": training.distribution(),
    }
    save_checkpoint(folder, training.model, training.state_dict(), about, attributes)
