"""What carries out a search or a training: Ray, or the calling process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from raynas.core.archspace import ArchSpace
from raynas.core.config import RayConfig
from raynas.core.errors import running
from raynas.core.progress import Progress
from raynas.core.study import Study
from raynas.evaluators.spec import EvaluatorSpec

if TYPE_CHECKING:
    from raynas.supernet.train_job import TrainJob


class Runner(Protocol):
    """Trains supernets and networks, and evaluates the architectures of studies.

    Attributes:
        config: how many processes, and on what.
    """

    config: RayConfig

    def train(self, job: TrainJob, out: str, progress: Progress) -> None:
        """Run the job, or go on with it where ``out`` holds a part; leave a checkpoint there.

        Raises:
            RuntimeError: the training failed; the message is its own.
            Interrupted: Ctrl-C.
        """
        ...

    def run_study(
        self,
        study: Study,
        space: ArchSpace,
        spec: EvaluatorSpec,
        out: str,
        progress: Progress,
    ) -> None:
        """Evaluate until the study has what it asks for.

        Raises:
            SearchFailed: the objective is not among the metrics, or no evaluator can be made.
            Interrupted: Ctrl-C; what was told is on disk.
        """
        ...


@contextmanager
def runner_of(config: RayConfig) -> Iterator[Runner]:
    """Connect to Ray and give its runner, or that of this process (``inline``)."""
    if config.inline:
        from raynas.setup.inline import InlineRunner

        inline = InlineRunner(config)
        with running():
            yield inline
        return
    from raynas.cluster.connect import connecting
    from raynas.cluster.runner import RayRunner

    with connecting(config) as connect, running():
        yield RayRunner(config, connect)
