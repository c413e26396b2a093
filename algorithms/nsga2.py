"""NSGA-II, Optuna's (Deb et al., 2002): evolution by non-dominated sorting and crowding."""

from __future__ import annotations

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.optuna_sampler import OptunaSampler, optuna_seed
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial


@SAMPLERS.register("nsga2")
class NSGA2(Sampler):
    """Breeds generations from the best fronts of the last one, by crossover and mutation.

    Differs: a small population (20; the paper has 100) and no repetition (ours); decisions that an
    architecture does not reach are inherited unseen, so that crossover can bring them back.

    It names no ``parent`` of a trial: Optuna keeps of a child neither which two were crossed nor
    which one was mutated, and of a generation only who may breed.

    Args:
        space: what is searched.
        seed: fixes the run.
        population: size of a generation; the first so many asks are random.
        mutation_prob: chance of each decision to change; None takes one change on average.
        crossover_prob: chance of a child to have two parents (Optuna's default).
        objectives: names of the scores that trials are told with, if there are several.

    Raises:
        ValueError: unless population >= 2 and both chances lie in [0, 1].
    """

    library = "optuna"
    multi_objective = True

    def __init__(
        self,
        space: ArchSpace,
        *,
        seed: int,
        population: int = 20,
        mutation_prob: float | None = None,
        crossover_prob: float = 0.9,
        objectives: tuple[str, ...] = (),
    ) -> None:
        if population < 2:
            raise ValueError(f"expected population >= 2, got {population}")
        for name, chance in (("mutation_prob", mutation_prob), ("crossover_prob", crossover_prob)):
            if chance is not None and not 0 <= chance <= 1:
                raise ValueError(f"expected 0 <= {name} <= 1, got {chance}")
        import optuna

        self.startup = population
        sampler = optuna.samplers.NSGAIISampler(
            population_size=population,
            mutation_prob=mutation_prob,
            crossover_prob=crossover_prob,
            seed=optuna_seed(seed),
        )
        rng = np.random.default_rng(seed)
        self._sampler = OptunaSampler(
            space, optuna, sampler, rng=rng, objectives=objectives, whole=True
        )

    def ask(self) -> Arch:
        """Return a random architecture in the first generation, then a child of the last one."""
        return self._sampler.ask()

    def tell(self, trial: Trial) -> None:
        """Learn from a trial, whoever proposed it; a failed one is only seen."""
        self._sampler.tell(trial)
