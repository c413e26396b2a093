"""Which weights of the networks that the end of a search has trained are kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raynas.core.arch import Arch
from raynas.core.finalists import best_seeds
from raynas.core.goals import Goals
from raynas.evaluators.weights_by_seed import WeightsBySeed
from raynas.storage.tables import load_trials

if TYPE_CHECKING:
    from raynas.supernet.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class FinalWeights:
    """Weights in the folders of a search's end.

    Attributes:
        files: that hold them.
        goals: of the run now, which say which seed is best.
    """

    files: WeightsBySeed
    goals: Goals

    def of(self, arch: Arch) -> tuple[int, Snapshot] | None:
        """Return the best seed whose weights of an architecture are there, and these.

        None without any.

        Raises:
            ValueError: their file is damaged.
        """
        there = self.files.seeds_of(arch)
        if not there:
            return None
        best = self._best(there).get(arch.key, there[-1])
        return best, self.files.load(arch, best)

    def has(self, arch: Arch) -> bool:
        """Return whether there are weights of an architecture."""
        return bool(self.files.seeds_of(arch))

    def keep_best(self, only: Collection[str] | None = None) -> None:
        """Remove all weights but those of each architecture's best seed.

        Args:
            only: keys of the architectures that are kept; None keeps all.
        """
        there = {seed: self.files.keys(seed) for seed in self.files.folders}
        if not any(there.values()):
            return
        best = self._best([seed for seed, keys in there.items() if keys])
        for seed, keys in there.items():
            for key in keys:
                if best.get(key) != seed or (only is not None and key not in only):
                    self.files.remove(key, seed)

    def _best(self, seeds: Collection[int]) -> dict[str, int]:
        """Return the best of some seeds by architecture key."""
        trials = {seed: load_trials(self.files.folders[seed]) for seed in seeds}
        return best_seeds(trials, self.goals)
