"""Evolution with truncation selection, crossover and mutation of every decision."""

from __future__ import annotations

import bisect

import numpy as np

from raynas.core.alias import Alias, only
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.deduplicator import Deduplicator
from raynas.core.ranking import scores_of
from raynas.core.sampler import SAMPLERS, Origin, Sampler
from raynas.core.trial import Trial

CHANGES = 0.5  # on average, per child
SELECTED, PARENTS = 5, 2  # the defaults, of a population that is large enough

STEADY = "every told trial counts at once here, and the best breed"


@SAMPLERS.register(
    "evolution",
    aliases={
        "EvolutionOptim": Alias(
            presets={"population": 100, "selected": 10, "parents": 2, "mutation_prob": 0.01},
            words={
                "pop_size": "population",
                "n_select": "selected",
                "n_parents": "parents",
                "n_offsprings": only("n_offsprings", 1, STEADY),
                "n_eliminate": only("n_eliminate", 1, STEADY),
                "n_crossover": only("n_crossover", None, STEADY),
            },
            at_most={"selected": "population", "parents": "selected"},
        )
    },
)
class Evolution(Sampler):
    """Crosses some of the best and mutates the child; the worst of the population dies.

    Mühlenbein and Schlierkamp-Voosen, 1993 (breeder genetic algorithm): the parents are drawn from
    the best by rank alone. Differs: steady state, so that every told trial counts at once and any
    number may be in flight; no architecture is proposed twice.

    Args:
        space: what is searched.
        seed: fixes the run.
        population: the first so many asks are random (ours).
        selected: how many of the best breed; None takes 5, or all of a smaller population (ours).
        parents: how many of those make one child: every decision comes from one of them; None takes
            2, or 1 where one breeds alone.
        mutation_prob: chance of each reached decision to change; None takes one change in every
            other child (0.5 / reached decisions; ours).

    Raises:
        ValueError: unless 1 <= parents <= selected <= population and 0 <= mutation_prob <= 1.
    """

    def __init__(
        self,
        space: ArchSpace,
        *,
        seed: int,
        population: int = 20,
        selected: int | None = None,
        parents: int | None = None,
        mutation_prob: float | None = None,
    ) -> None:
        selected = min(SELECTED, population) if selected is None else selected
        parents = min(PARENTS, selected) if parents is None else parents
        if not 1 <= parents <= selected <= population:
            raise ValueError(
                f"expected 1 <= parents <= selected <= population, got parents {parents}, "
                f"selected {selected} and population {population}"
            )
        if mutation_prob is not None and not 0 <= mutation_prob <= 1:
            raise ValueError(f"expected 0 <= mutation_prob <= 1, got {mutation_prob}")
        self.startup = self._population = population
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)
        self.origin = Origin()
        self._selected, self._parents = selected, parents
        self._mutation_prob = mutation_prob
        self._best: list[tuple[float, Arch]] = []  # at most ``selected``, the best first
        self._asked = 0

    def ask(self) -> Arch:
        """Return a random architecture at first, then a child of the best."""
        self._asked += 1
        self.origin = Origin()
        if self._asked <= self._population or not self._best:
            return self._visited.propose(lambda: self._space.sample(self._rng))
        child = self._visited.propose(self._child)
        if not self._visited.drawn:
            self.origin = Origin()
        return child

    def _child(self) -> Arch:
        order = self._rng.permutation(len(self._best))[: self._parents]
        child, *others = (self._best[i][1] for i in order)
        self.origin = Origin(child.key)
        for other in others:
            child = self._space.cross(child, other, self._rng)
        return self._mutated(child)

    def _mutated(self, arch: Arch) -> Arch:
        free = [d for d in self._space.reached(arch).values() if d.count() > 1]
        chance = (
            self._mutation_prob if self._mutation_prob is not None else CHANGES / max(len(free), 1)
        )
        coins = self._rng.random(len(free))
        changed = {
            decision.label: decision.change(arch[decision.label], self._rng)
            for decision, coin in zip(free, coins, strict=True)
            if coin < chance
        }
        return self._space.sample(self._rng, arch | changed) if changed else arch

    def tell(self, trial: Trial) -> None:
        """Let a scored trial breed if it is among the best; a failed one is only seen."""
        self._visited.add(trial.arch)
        if (scores := scores_of(trial)) is not None:
            # of equal scores, the later one comes behind
            bisect.insort(self._best, (scores[0], trial.arch), key=lambda member: -member[0])
            del self._best[self._selected :]
