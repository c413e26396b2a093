"""The processes that train one subnet together."""

from __future__ import annotations

from dataclasses import dataclass

from raynas.storage.run_folder import Folder


@dataclass(frozen=True, kw_only=True)
class TrainingGroup:
    """Who trains one subnet.

    Attributes:
        ranks: how many processes.
        cpus: of each, and its torch threads.
        gpus: share of each.
        storage: folder or URI that all of them reach; the job keeps nothing there.
    """

    ranks: int
    cpus: int
    gpus: float
    storage: str

    @property
    def resources(self) -> dict[str, float]:
        """What each process takes."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def clear(self) -> None:
        """Remove the folder that the jobs had."""
        parent, _, name = self.storage.rpartition("/")
        Folder(parent).remove(name)
