"""What networks have learned at the end of a search: one file for each seed and architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raynas.core.arch import Arch
from raynas.core.locations import under
from raynas.core.temporary import temporary_folder
from raynas.evaluators.kept_weights import WEIGHTS
from raynas.storage.run_folder import Folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from raynas.supernet.snapshot import Snapshot


@dataclass(frozen=True)
class WeightsBySeed:
    """Networks' states in the folders of evaluations, each as a checkpoint of its own.

    Attributes:
        folders: of the evaluations, by seed.
    """

    folders: Mapping[int, str]

    def offer(
        self, arch: Arch, metrics: object, weights: Mapping[str, Tensor], *, seed: int
    ) -> None:
        """Write weights that an evaluator returns, whatever its metrics; which stay is seen later.

        Args:
            arch: that they are of.
            metrics: as the evaluator returned them.
            weights: a state_dict.
            seed: of the evaluation.
        """
        from raynas.supernet.snapshot import Snapshot

        self._write(arch, seed, Snapshot(weights, {}))

    def keep(self, arch: Arch, net: nn.Module, seed: int) -> None:
        """Write the state of a network that was trained.

        Args:
            arch: that it is of.
            net: as it was measured.
            seed: of the evaluation.
        """
        from raynas.supernet.snapshot import Snapshot

        self._write(arch, seed, Snapshot.of(net))

    def _write(self, arch: Arch, seed: int, state: Snapshot) -> None:
        from raynas.supernet.checkpoint import WEIGHTS as LAST

        with temporary_folder() as place:
            state.save(place)
            self._folder(seed).put(place, arch.key, last=LAST)

    def seeds_of(self, arch: Arch) -> list[int]:
        """Return the seeds of which weights of an architecture are there."""
        from raynas.supernet.checkpoint import WEIGHTS as LAST

        return [seed for seed in self.folders if self._folder(seed).has(f"{arch.key}/{LAST}")]

    def load(self, arch: Arch, seed: int) -> Snapshot:
        """Return what an architecture has learned.

        Raises:
            ValueError: its file is damaged.
        """
        from raynas.storage.local_copies import local_copy
        from raynas.supernet.snapshot import Snapshot

        return Snapshot.load(local_copy(under(self._folder(seed).path, arch.key)))

    def keys(self, seed: int) -> list[str]:
        """Return the architectures, by their keys, of which there is something with a seed."""
        return self._folder(seed).names()

    def remove(self, key: str, seed: int) -> None:
        """Remove what there is of an architecture, by its key, with a seed."""
        self._folder(seed).remove(key)

    def _folder(self, seed: int) -> Folder:
        return Folder(under(self.folders[seed], WEIGHTS))
