"""Regularized (ageing) evolution (Real et al., 2019, arXiv:1802.01548, Algorithm 1)."""

from __future__ import annotations

from collections import deque

import numpy as np

from raynas.core.alias import Alias, only
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.deduplicator import Deduplicator
from raynas.core.ranking import scores_of
from raynas.core.sampler import SAMPLERS, Origin, Sampler
from raynas.core.trial import Trial

TOURNAMENT = 16  # the default, of a population that is large enough


@SAMPLERS.register(
    "regularized_evolution",
    aliases={
        "RegularizedEvolutionOptim": Alias(
            presets={"population": 100, "tournament": 25},
            words={
                "pop_size": "population",
                "n_eliminate": only("n_eliminate", 1, "one dies where one is born"),
            },
            at_most={"tournament": "population"},
        )
    },
)
class RegularizedEvolution(Sampler):
    """Mutates the best of a random tournament; the oldest of the population dies, not the worst.

    Under the name RegularizedEvolutionOptim, population and tournament are the paper's.

    Differs: no architecture is proposed twice: a child that was seen before is dropped, and another
    tournament held. The defaults are a small population and a large tournament (P 20, S 16; the
    paper has P 100, S 25): the best may be the parent often, as none of its children comes twice.
    Together that needs half the queries (ours, on NAS-Bench-Macro, NAS-Bench-201 and random
    functions).

    Args:
        space: what is searched.
        seed: fixes the run.
        population: how many of the last scored trials are alive (P); the first P asks are random.
        tournament: how many of them, drawn without replacement, compete to be the parent (S);
            None takes 16, or all of a smaller population.

    Raises:
        ValueError: unless 1 <= tournament <= population.
    """

    def __init__(
        self, space: ArchSpace, *, seed: int, population: int = 20, tournament: int | None = None
    ) -> None:
        tournament = min(TOURNAMENT, population) if tournament is None else tournament
        if not 1 <= tournament <= population:
            raise ValueError(
                f"expected 1 <= tournament <= population, got tournament {tournament} "
                f"and population {population}"
            )
        self.startup = self._population = population
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)
        self.origin = Origin()
        self._alive: deque[tuple[float, Arch]] = deque(maxlen=population)
        self._tournament = tournament
        self._asked = 0

    def ask(self) -> Arch:
        """Return a random architecture at first, then a mutated winner of a tournament."""
        self._asked += 1
        self.origin = Origin()
        if self._asked <= self._population or not self._alive:
            return self._visited.propose(lambda: self._space.sample(self._rng))
        parents: list[Arch] = []

        def child() -> Arch:
            parents.append(self._winner())
            return self._space.mutate(parents[-1], self._rng)

        arch = self._visited.propose(child)
        if self._visited.drawn:
            self.origin = Origin(parents[-1].key)
        return arch

    def _winner(self) -> Arch:
        alive = len(self._alive)
        rivals = self._rng.permutation(alive)[: self._tournament].tolist()
        return max((self._alive[i] for i in rivals), key=lambda member: member[0])[1]

    def tell(self, trial: Trial) -> None:
        """Let a scored trial join the population; a failed one is only remembered as seen."""
        self._visited.add(trial.arch)
        scores = scores_of(trial)
        if scores is not None:
            self._alive.append((scores[0], trial.arch))
