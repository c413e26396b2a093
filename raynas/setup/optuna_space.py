"""The parameters that trials of a study of Optuna have in common, searched by one of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.build_sampler import build_sampler
from raynas.core.errors import Exhausted
from raynas.core.listed_parameter import LISTABLE, ListedParameter
from raynas.core.trial import Trial

REPEATS = 1000  # proposals of what is known, after which a sampler has come to its end
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def listed(name: str, domain: BaseDistribution) -> ListedParameter | None:
    """Return a parameter as the list of its values; None where it has too many."""
    values: Sequence[Any] = ()
    if isinstance(domain, CategoricalDistribution):
        values = domain.choices
    elif isinstance(domain, IntDistribution):
        values = range(domain.low, domain.high + 1, domain.step)
    elif isinstance(domain, FloatDistribution) and domain.step is not None:
        count = round((domain.high - domain.low) / domain.step) + 1
        values = [domain.low + i * domain.step for i in range(min(count, LISTABLE + 1))]
    return ListedParameter.of(name, values) if 0 < len(values) <= LISTABLE else None


def objectives_of(study: Study) -> list[str]:
    """Return the names of a study's values: its own, or else those of its table."""
    names = study.metric_names
    return [f"values_{i}" for i in range(len(study.directions))] if names is None else list(names)


class RelativeSpace:
    """Parameters, the sampler that decides them, and the trials that it was told.

    Args:
        domains: of the parameters, by name; each can be listed.
        algo: name of the sampler.
        seed: fixes what it proposes.
        options: of the sampler.
        study: whose trials are told.

    Attributes:
        domains: as given.
        size: how many combinations there are.
    """

    def __init__(
        self,
        domains: Mapping[str, BaseDistribution],
        algo: str,
        seed: int,
        options: Mapping[str, Any],
        study: Study,
    ) -> None:
        self.domains = dict(domains)
        self._parameters: dict[str, ListedParameter] = {}
        for name, domain in domains.items():
            parameter = listed(name, domain)
            assert parameter is not None
            self._parameters[name] = parameter
        self._space = ArchSpace(tuple(listed.choice for listed in self._parameters.values()))
        self.size = self._space.size()
        self._sampler = build_sampler(
            algo, self._space, seed=seed, options=options, objectives=objectives_of(study)
        )
        self._signs = [-1 if way == StudyDirection.MINIMIZE else 1 for way in study.directions]
        self._rng = np.random.default_rng(seed)
        self._told: set[int] = set()
        self._tried: set[str] = set()  # keys
        self._flying: dict[int, Arch] = {}
        self._unused: list[Arch] = []  # proposed, but another was evaluated in their place
        self._others = False  # whether a trial had parameters beside these

    def catch_up(self, study: Study) -> None:
        """Tell the sampler what finished elsewhere."""
        for trial in study.get_trials(deepcopy=False, states=FINISHED):
            if trial.number not in self._told:
                self.tell(trial, trial.state, trial.values)

    def tell(self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the sampler what came of a trial."""
        self._told.add(trial.number)
        names = {name for name, domain in trial.distributions.items() if not domain.single()}
        self._others |= not names <= self.domains.keys()
        proposed, arch = self._flying.pop(trial.number, None), self._arch(trial)
        if proposed is not None and arch is not None and proposed != arch:
            self._unused.append(proposed)
        arch = proposed if arch is None else arch
        if arch is None:  # it ended before all parameters were decided
            return
        self._tried.add(arch.key)
        if state == TrialState.COMPLETE and values is not None:
            scores = [sign * value for sign, value in zip(self._signs, values, strict=True)]
            self._sampler.tell(_scored(arch, scores))
        else:
            self._sampler.tell(Trial.failed(arch, state.name.lower()))

    def propose(self, study: Study, trial: FrozenTrial) -> dict[str, Any] | None:
        """Return values of all parameters for a trial; None where nothing new is left."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        elsewhere = (self._arch(other) for other in running if other.number != trial.number)
        flying = {arch.key for arch in elsewhere if arch is not None}
        flying |= {arch.key for arch in self._flying.values()} | self._tried
        for _ in range(min(self.size, len(flying) + REPEATS)):
            try:
                arch = self._unused.pop(0) if self._unused else self._sampler.ask()
            except Exhausted:
                return None
            if arch.key not in flying:
                self._flying[trial.number] = arch
                return self._values(arch)
        return None

    def draw(self) -> dict[str, Any]:
        """Return random values, new or not."""
        return self._values(self._space.sample(self._rng))

    def is_spent(self) -> bool:
        """Return whether every trial that there can be was tried."""
        return not self._others and len(self._tried) >= self.size

    def _values(self, arch: Arch) -> dict[str, Any]:
        return {name: one.value(arch[name]) for name, one in self._parameters.items()}

    def _arch(self, trial: FrozenTrial) -> Arch | None:
        """Return a trial's parameters, if it has all of these and within their ranges."""
        if any(trial.distributions.get(name) != domain for name, domain in self.domains.items()):
            return None
        internal = (
            (name, self.domains[name].to_internal_repr(trial.params[name])) for name in self.domains
        )
        return Arch({name: self._option(name, number) for name, number in internal})

    def _option(self, name: str, number: float) -> Any:
        """Return the option of what Optuna stores: of a category its place, of a number itself."""
        domain, options = self.domains[name], self._parameters[name].choice.options
        if isinstance(domain, IntDistribution | FloatDistribution):
            return options[round((number - domain.low) / (domain.step or 1))]
        return options[int(number)]


def _scored(arch: Arch, scores: list[float]) -> Trial:
    return Trial.scored_as(arch, scores) if len(scores) > 1 else Trial.completed(arch, scores[0])
