"""Trainings and studies on Ray, behind what a search knows of either."""

from __future__ import annotations

from collections.abc import Callable

from raynas.cluster.worker_logs import kept_in
from raynas.core.archspace import ArchSpace
from raynas.core.config import RayConfig
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.evaluators.spec import EvaluatorSpec
from raynas.supernet.train_job import TrainJob


class RayRunner:
    """Runs on the Ray that this process is connected to.

    Args:
        config: how to use it.
        connect: returns once this process is connected.
    """

    def __init__(self, config: RayConfig, connect: Callable[[], None]) -> None:
        self.config, self._connect = config, connect

    def train(self, job: TrainJob, out: str, progress: Progress) -> None:
        """Train as a Ray Train job."""
        from raynas.cluster.train import is_trained_here, train

        if is_trained_here(self.config):  # Ray starts meanwhile
            progress.phase("starting training")
        else:
            self._connected(progress)
            progress.phase("starting Ray Train")
        with kept_in(out):
            train(job, out, self.config, progress)

    def run_study(
        self,
        study: Study,
        space: ArchSpace,
        spec: EvaluatorSpec,
        out: str,
        progress: Progress,
    ) -> None:
        """Evaluate a study's architectures as a Ray Tune run."""
        self._connected(progress)
        progress.phase("starting workers")
        from raynas.cluster.tune import run_study

        with kept_in(out):
            run_study(study, space, spec, out, self.config, progress)

    def _connected(self, progress: Progress) -> None:
        progress.phase("starting Ray")
        self._connect()
