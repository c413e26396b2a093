"""Supernet training and studies on Ray, behind what a search knows of either."""

from __future__ import annotations

from raynas.supernet.job import SupernetJob

from raynas.core.archspace import ArchSpace
from raynas.core.config import RayConfig
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.evaluators.spec import EvaluatorSpec


class RayRunner:
    """Runs on the Ray that this process is connected to.

    Args:
        config: how to use it.
    """

    def __init__(self, config: RayConfig) -> None:
        self.config = config

    def train_supernet(self, job: SupernetJob, out: str, progress: Progress) -> None:
        """Train a supernet as a Ray Train job."""
        progress.phase("starting Ray Train")
        from raynas.cluster.train import train_supernet

        train_supernet(job, out, self.config, progress)

    def run_study(
        self,
        study: Study,
        space: ArchSpace,
        spec: EvaluatorSpec,
        out: str,
        progress: Progress,
    ) -> None:
        """Evaluate a study's architectures as a Ray Tune run."""
        from raynas.cluster.tune import run_study

        run_study(study, space, spec, out, self.config, progress)
