"""The processes that train one subnet together."""

from __future__ import annotations

from dataclasses import dataclass

from raynas.cluster.resources import processes_that_fit
from raynas.core.config import RayConfig
from raynas.core.locations import last_name, parent, under
from raynas.core.rank_counts import equal_shares
from raynas.evaluators.spec import EvaluatorSpec
from raynas.storage.file_systems import Keys, known_keys
from raynas.storage.run_folder import Folder

JOBS = "jobs"  # folder of what Ray Train writes for itself while several ranks train a network


@dataclass(frozen=True, kw_only=True)
class TrainingGroup:
    """Who trains one subnet.

    Attributes:
        least: number of processes.
        most: number of processes.
        cpus: of each, and its torch threads.
        gpus: share of each.
        storage: folder or URI that all of them reach; the job keeps nothing there.
        keys: that open it.
        groups: how many train at a time, each another subnet.
    """

    least: int
    most: int
    cpus: int
    gpus: float
    storage: str
    keys: Keys
    groups: int = 1

    @property
    def resources(self) -> dict[str, float]:
        """What each process takes."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def ranks(self, batch_size: int) -> int:
        """Return how many processes fit now, if all groups have as many.

        Args:
            batch_size: of each training, which it is to divide by where there is a choice.

        Raises:
            ValueError: there is a choice, and it divides by none of the numbers.
        """
        if self.least == self.most:
            return self.least
        counts = equal_shares(batch_size, self.least, self.most)
        fit = processes_that_fit(self.resources) // self.groups
        return max((count for count in counts if count <= fit), default=counts[0])

    def clear(self) -> None:
        """Remove the folder that the jobs had."""
        Folder(parent(self.storage)).remove(last_name(self.storage))


def training_group(spec: EvaluatorSpec, config: RayConfig, out: str) -> TrainingGroup | None:
    """Return who trains each architecture; None if it is one process, the worker itself.

    Args:
        spec: of the evaluator.
        config: how many ranks, and on what.
        out: run folder.

    Raises:
        ValueError: memory is limited, which only a worker's own can be.
    """
    if spec.epochs == 0 or config.max_train_workers == 1:
        return None
    config.check_trains(spec.epochs)
    return TrainingGroup(
        least=config.min_train_workers,
        most=config.max_train_workers,
        cpus=config.cpus_per_train_worker or config.cpus_per_worker,
        gpus=config.gpus_per_train_worker or config.gpus_per_worker,
        storage=under(out, JOBS),
        keys=known_keys(),
    )
