"""Regularized (ageing) evolution (Real et al., 2019, arXiv:1802.01548, Algorithm 1)."""

from __future__ import annotations

from collections import deque

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.ranking import scores_of
from raynas.core.sampler import SAMPLERS
from raynas.core.trial import Trial
from raynas.core.visited import Visited


@SAMPLERS.register("regularized_evolution", aliases=("RegularizedEvolutionOptim",))
class RegularizedEvolution:
    """Mutates the best of a random tournament; the oldest of the population dies, not the worst.

    Differs: no architecture is proposed twice, and the defaults are a small population (P 20, S 10;
    the paper has P 100, S 25), which together need half the queries (ours, on NAS-Bench-Macro).

    Args:
        space: what is searched.
        seed: fixes the run.
        population: how many of the last scored trials are alive (P); the first P asks are random.
        tournament: how many of them, drawn without replacement, compete to be the parent (S).

    Raises:
        ValueError: unless 1 <= tournament <= population.
    """

    def __init__(
        self, space: ArchSpace, *, seed: int, population: int = 20, tournament: int = 10
    ) -> None:
        if not 1 <= tournament <= population:
            raise ValueError(
                f"expected 1 <= tournament <= population, got tournament {tournament} "
                f"and population {population}"
            )
        self.startup = population
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._visited = Visited(space, self._rng)
        self._alive: deque[tuple[float, Arch]] = deque(maxlen=population)
        self._tournament = tournament
        self._asked = 0

    def ask(self) -> Arch:
        """Return a random architecture at first, then a mutated winner of a tournament."""
        self._asked += 1
        if self._asked <= self.startup or not self._alive:
            return self._visited.propose(lambda: self._space.sample(self._rng))
        parent = self._winner()
        return self._visited.propose(lambda: self._space.mutate(parent, self._rng))

    def _winner(self) -> Arch:
        alive = len(self._alive)
        rivals = self._rng.permutation(alive)[: self._tournament]
        return max((self._alive[i] for i in rivals), key=lambda member: member[0])[1]

    def tell(self, trial: Trial) -> None:
        """Let a scored trial join the population; a failed one is only remembered as seen."""
        self._visited.add(trial.arch)
        scores = scores_of(trial)
        if scores is not None:
            self._alive.append((scores[0], trial.arch))
