"""A supernet's training with the latencies that its algorithm may need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from raynas.core.train_settings import TrainSettings
from raynas.gradient.hardware import options_with_latency
from raynas.supernet.job import SupernetJob, run_job
from raynas.supernet.train_job import Report


@dataclass(frozen=True)
class SupernetRun:
    """Carries out a ``SupernetJob``, as a ``TrainJob``."""

    job: SupernetJob
    title = "supernet training"
    folder = "supernet"

    @property
    def columns(self) -> dict[str, str]:
        """The algorithm's name."""
        return {"algo": self.job.algo.name}

    @property
    def settings(self) -> TrainSettings:
        """Of the weights' training."""
        return self.job.settings

    def run(self, report: Report, *, device: torch.device | None, checkpoint: Path | None) -> None:
        """Train on one rank; see ``TrainJob.run``."""
        with options_with_latency(self.job.algo.options, self.job.latency) as options:
            run_job(self.job, options, device=device, checkpoint=checkpoint, report=report)
