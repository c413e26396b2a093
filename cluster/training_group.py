"""The processes that train one subnet together."""

from __future__ import annotations

from dataclasses import dataclass

from raynas.core.config import RayConfig
from raynas.core.locations import last_name, parent, under
from raynas.evaluators.spec import EvaluatorSpec
from raynas.storage.file_systems import Keys, known_keys
from raynas.storage.run_folder import Folder

JOBS = "jobs"  # folder of what Ray Train writes for itself while several ranks train a network


@dataclass(frozen=True, kw_only=True)
class TrainingGroup:
    """Who trains one subnet.

    Attributes:
        ranks: how many processes.
        cpus: of each, and its torch threads.
        gpus: share of each.
        storage: folder or URI that all of them reach; the job keeps nothing there.
        keys: that open it.
    """

    ranks: int
    cpus: int
    gpus: float
    storage: str
    keys: Keys

    @property
    def resources(self) -> dict[str, float]:
        """What each process takes."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def clear(self) -> None:
        """Remove the folder that the jobs had."""
        Folder(parent(self.storage)).remove(last_name(self.storage))


def training_group(spec: EvaluatorSpec, config: RayConfig, out: str) -> TrainingGroup | None:
    """Return who trains each architecture; None if it is one process, the worker itself.

    Args:
        spec: of the evaluator.
        config: how many ranks, and on what.
        out: run folder.
    """
    if spec.epochs == 0 or config.train_workers == 1:
        return None
    return TrainingGroup(
        ranks=config.train_workers,
        cpus=config.cpus_per_train_worker or config.cpus_per_worker,
        gpus=config.gpus_per_train_worker or config.gpus_per_worker,
        storage=under(out, JOBS),
        keys=known_keys(),
    )
