"""A supernet's training as a job: from a checkpoint, or the start, to the last epoch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raynas.core.config import ComponentSpec, TrainSettings
from raynas.core.fixed_list import FOUND
from raynas.data.module import DataModule
from raynas.nn.buffers import make_room
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.attributes import read_attributes, write_attributes
from raynas.supernet.checkpoint import (
    load_attributes,
    load_state,
    load_weights,
    save_checkpoint,
)
from raynas.supernet.distributed import ProcessGroup
from raynas.supernet.protocol import ONE_SHOTS
from raynas.supernet.rebuilding import check_rebuilt
from raynas.supernet.training import SupernetTraining

CHECKPOINT_S = 30.0  # a checkpoint at most this often, and one at the end

Report = Callable[[dict[str, Any], Path | None], None]


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
    """

    space: ModelSpace
    data: DataModule
    algo: ComponentSpec
    settings: TrainSettings
    seed: int
    about: dict[str, Any]
    latency: str | None = None


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
    write_attributes(model, ProcessGroup().from_first(read_attributes(model)))
    training = SupernetTraining(
        model,
        ONE_SHOTS[job.algo.name](seed=job.seed, **options),
        job.data,
        job.settings,
        seed=job.seed,
        device=device,
    )
    if checkpoint is not None:
        weights = load_weights(checkpoint)
        make_room(training.model, weights)
        training.model.load_state_dict(weights)
        write_attributes(training.model, load_attributes(checkpoint))
        training.load_state_dict(load_state(checkpoint))
    saved_s = time.monotonic()
    while training.epoch < job.settings.epochs:
        row = training.run_epoch()
        due = time.monotonic() - saved_s > CHECKPOINT_S or training.epoch == job.settings.epochs
        if due and training.rank == 0:
            _report_saved(job, training, row, report)
        else:
            report(row, None)
        saved_s = time.monotonic() if due else saved_s


def _report_saved(
    job: SupernetJob, training: SupernetTraining, row: dict[str, float], report: Report
) -> None:
    space = job.space.seeded(job.seed)
    attributes = read_attributes(training.model, space.skeleton())
    check_rebuilt(space, training.model, attributes, training.example)
    with tempfile.TemporaryDirectory() as folder:
        about = {
            **job.about,
            "seed": job.seed,
            "channels_last": training.channels_last,
            "epoch": training.epoch,
            "epochs": job.settings.epochs,
            "found": training.top_k(FOUND),
            "distribution": training.distribution(),
        }
        save_checkpoint(Path(folder), training.model, training.state_dict(), about, attributes)
        report(row, Path(folder))
