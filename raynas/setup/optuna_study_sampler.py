"""Our samplers as a sampler of Optuna, for anybody's define-by-run study."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from raynas.core.build_sampler import refuse_several, sampler_options
from raynas.core.listed_parameter import LISTABLE
from raynas.core.optuna_sampler import optuna_seed
from raynas.setup.algorithms import name_of, trains
from raynas.setup.optuna_space import RelativeSpace, listed, objectives_of


def optuna_sampler(algo: str, *, seed: int = 0, **options: Any) -> BaseSampler:
    """Return a registered sampler for a study of Optuna.

    It decides what all completed trials have in common: categorical parameters, and numbers with a
    step. The first trial, which there is nothing in common with, is drawn at random; so are other
    parameters, as real numbers, and those that only some trials have. No combination is proposed
    twice, nor one that another process has in flight: where none is left, ``study.optimize`` ends,
    and a loop that asks for more gets them at random. Pruned and failed trials are remembered as
    tried. Enqueued trials, and those of other processes or of an earlier one, are learned from.

    Differs: a number with a step is the list of its values, each as likely as the others, on a log
    scale too; a study that another process goes on with begins with the sampler's first draws
    again, as far as they are new.

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=optuna_sampler("local_search", starts=2))
    >>> study.optimize(lambda trial: trial.suggest_int("x", 0, 9) ** 2, n_trials=20)
    >>> study.best_params, len(study.trials)
    ({'x': 0}, 10)

    Args:
        algo: name of a sampler; ``raynas.available("algorithms")`` lists them.
        seed: fixes what is proposed, where nothing runs at once.
        options: of the sampler.

    Raises:
        UnknownName: no algorithm has this name.
        ValueError: the algorithm trains a supernet, or an option is wrong. A study of several
            objectives raises it for a sampler that takes one.
    """
    if trains(algo):
        raise ValueError(f"{algo} trains a supernet and proposes no parameters")
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    return RegisteredSampler(name_of(algo), seed, sampler_options(algo, options))


class RegisteredSampler(BaseSampler):
    """What ``optuna_sampler`` returns.

    What it has learned is no part of it when it is pickled: the study has it.

    Args:
        algo: name of the sampler.
        seed: fixes what it proposes.
        options: of the sampler, as it declares them.
    """

    def __init__(self, algo: str, seed: int, options: Mapping[str, Any]) -> None:
        self._algo, self._seed, self._options = algo, seed, dict(options)
        self._independent = RandomSampler(seed=optuna_seed(seed))
        self._begin("")
        self._lock = threading.RLock()
        self._warned: set[str] = set()

    def __str__(self) -> str:
        return f"raynas' {self._algo}"

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_relative": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def reseed_rng(self) -> None:
        """Draw another seed, for what has not begun; what has is shared by all threads."""
        with self._lock:
            self._independent.reseed_rng()
            if self._relative is None:
                self._seed = int(np.random.default_rng().integers(2**32))

    def _begin(self, study_name: str) -> None:
        """Forget the study before, of which parameters and trials may have the same names."""
        self._study_name = study_name
        self._in_common = IntersectionSearchSpace()
        self._relative: RelativeSpace | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Refuse a study of more objectives than the sampler takes."""
        refuse_several(self._algo, objectives_of(study))
        with self._lock:
            if self._study_name != study.study_name:
                self._begin(study.study_name)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what completed trials have in common, as far as it can be listed."""
        with self._lock:
            common = self._in_common.calculate(study)
        return {
            name: domain
            for name, domain in common.items()
            if not domain.single() and listed(name, domain) is not None
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the sampler's next proposal."""
        if not search_space:
            return {}
        with self._lock:
            relative = self._relative
            if relative is None or relative.domains != search_space:
                relative = RelativeSpace(search_space, self._algo, self._seed, self._options, study)
                self._relative = relative
            relative.catch_up(study)
            proposed = relative.propose(study, trial)
            if proposed is not None:
                return proposed
            self._warn(
                "exhausted",
                f"{self._algo} has proposed all {relative.size} combinations of "
                f"{', '.join(search_space)}: they are drawn at random from here on",
            )
            return relative.draw()

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter at random, and say so once if the sampler can never decide it."""
        if not param_distribution.single() and listed(param_name, param_distribution) is None:
            self._warn(
                "random",
                f"{param_name!r} is drawn at random: {self._algo} decides categorical parameters "
                f"and numbers with a step, of at most {LISTABLE} values",
            )
        with self._lock:
            return self._independent.sample_independent(
                study, trial, param_name, param_distribution
            )

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Learn from a trial, and stop the study when nothing is left."""
        with self._lock:
            relative = self._relative
            if relative is None or self._study_name != study.study_name:
                return
            relative.tell(trial, state, values)
            over = relative.is_spent()
        if over:
            with suppress(RuntimeError):  # asked and told, there is no loop to be stopped
                study.stop()

    def _warn(self, what: str, text: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(text, stacklevel=2)
