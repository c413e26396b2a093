"""A supernet's training with the latencies that its algorithm may need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raynas.gradient.hardware import options_with_latency
from raynas.supernet.job import SupernetJob, run_job
from raynas.supernet.train_job import Report


@dataclass(frozen=True)
class SupernetRun:
    """Carries out a ``SupernetJob``, as a ``TrainJob``.

    Attributes:
        job: what to train.
        folder: of its checkpoints, inside the run's.
        first_epoch: of its rows in the history, which other trainings of the run may begin.
    """

    job: SupernetJob
    folder: str = "supernet"
    first_epoch: int = 0
    title = "supernet training"

    @property
    def columns(self) -> dict[str, str]:
        """The algorithm's name."""
        return {"algo": self.job.algo.name}

    @property
    def epochs(self) -> int:
        """The number of the last epoch in the history."""
        return self.first_epoch + self.job.settings.epochs

    @property
    def batch_size(self) -> int:
        """The training's, or the data's own."""
        return self.job.settings.batch_size or self.job.data.batch_size

    def run(self, report: Report, *, device: torch.device | None, checkpoint: Path | None) -> None:
        """Train on one rank; see ``TrainJob.run``."""

        def numbered(row: dict[str, Any], folder: Path | None) -> None:
            report({**row, "epoch": row["epoch"] + self.first_epoch}, folder)

        with options_with_latency(self.job.algo.options, self.job.latency) as options:
            run_job(self.job, options, device=device, checkpoint=checkpoint, report=numbered)
