"""Tree-structured Parzen estimator, Optuna's (Bergstra et al., 2011; arXiv:2304.11127)."""

from __future__ import annotations

import warnings

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.optuna_sampler import OptunaSampler, optuna_seed
from raynas.core.sampler import SAMPLERS, Sampler
from raynas.core.trial import Trial


@SAMPLERS.register("tpe")
class TPE(Sampler):
    """Draws from a density of the good architectures what a density of the others makes unlikely.

    Decisions that every architecture reaches are drawn together, conditional ones each on its own.
    Differs: no architecture is proposed twice; a subset of many options is one parameter per option
    and repaired to the right number of them.

    Args:
        space: what is searched.
        seed: fixes the run.
        startup: the first so many asks are random (Optuna's default).
        candidates: how many draws the best is taken from (Optuna's default).

    Raises:
        ValueError: unless startup >= 1 and candidates >= 1.
    """

    library = "optuna"

    def __init__(
        self, space: ArchSpace, *, seed: int, startup: int = 10, candidates: int = 24
    ) -> None:
        if startup < 1 or candidates < 1:
            raise ValueError(
                f"expected startup >= 1 and candidates >= 1, got {startup} and {candidates}"
            )
        import optuna

        self.startup = startup
        with warnings.catch_warnings(action="ignore"):  # some of it is experimental in old releases
            sampler = optuna.samplers.TPESampler(
                seed=optuna_seed(seed),
                n_startup_trials=startup,
                n_ei_candidates=candidates,
                multivariate=True,
                constant_liar=True,
            )
        rng = np.random.default_rng(seed)
        self._sampler = OptunaSampler(space, optuna, sampler, rng=rng)

    def ask(self) -> Arch:
        """Return a random architecture at first, then the likeliest to be good of some draws."""
        return self._sampler.ask()

    def tell(self, trial: Trial) -> None:
        """Learn from a trial, whoever proposed it; a failed one is only seen."""
        self._sampler.tell(trial)
