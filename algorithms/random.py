"""Random search without repetition (Li & Talwalkar, 2019, arXiv:1902.07638)."""

from __future__ import annotations

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.deduplicator import Deduplicator
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial


@SAMPLERS.register("random", aliases=("RandomSearchOptim", "RandomSearch"))
class RandomSearch(Sampler):
    """Draws every decision uniformly and never proposes an architecture twice."""

    startup: int | None = None

    def __init__(self, space: ArchSpace, *, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)

    def ask(self) -> Arch:
        """Return an architecture that was neither proposed nor told before."""
        return self._visited.propose(lambda: self._space.sample(self._rng))

    def tell(self, trial: Trial) -> None:
        """Count the architecture as seen; its score changes nothing."""
        self._visited.add(trial.arch)
