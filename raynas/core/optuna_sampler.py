"""Optuna's samplers as ours: conditional trees, strangers, no repetition."""

from __future__ import annotations

from typing import Any

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.categorical import decide, numbers_of, parameters, picked
from raynas.core.deduplicator import Deduplicator
from raynas.core.ranking import scores_of
from raynas.core.sampler import Sampler
from raynas.core.trial import Trial

REASKS = 3  # suggestions asked for in search of a new one, before the last one is mutated


class OptunaSampler(Sampler):
    """Asks an Optuna study for one parameter after the other, and tells it what came of them.

    The study always learns from what was really evaluated: where a suggestion was seen before or
    had to be repaired, it is discarded and the architecture asked in its place is enqueued, as
    strangers' trials are.

    Args:
        space: what is searched.
        optuna: the module; floor 0 imports no library, so the plug-in hands it in.
        sampler: one of its samplers, fresh.
        rng: for what the study does not decide.
        objectives: names of the scores, if there are several.
        whole: let every trial decide the whole tree, reached or not, as genes that are inherited
            unseen; otherwise only what is reached.
    """

    def __init__(
        self,
        space: ArchSpace,
        optuna: Any,
        sampler: Any,
        *,
        rng: np.random.Generator,
        objectives: tuple[str, ...] = (),
        whole: bool = False,
    ) -> None:
        self._space, self._rng = space, rng
        self._optuna = optuna
        self._study = _quiet_study(optuna, sampler, max(1, len(objectives)))
        self._failed = optuna.trial.TrialState.FAIL
        self._objectives, self._whole = objectives, whole
        self._visited = Deduplicator(space, rng)
        self._flying: dict[str, Any] = {}  # trials of the study by key

    def ask(self) -> Arch:
        """Return an unseen architecture: suggested, or mutated from what was."""
        suggested: list[Arch] = []
        trial: Any = None

        def draw() -> Arch:
            nonlocal trial
            if len(suggested) == REASKS:
                again = self._space.size() > 1
                return self._space.mutate(suggested[-1], self._rng) if again else suggested[-1]
            if trial is not None:
                self._study.tell(trial, state=self._failed)
            trial = self._study.ask()
            suggested.append(self._read(trial))
            return suggested[-1]

        arch = self._visited.propose(draw)
        if arch is not suggested[-1] or not self._says(trial, arch):
            self._study.tell(trial, state=self._failed)
            trial = self._fixed(arch)
        self._flying[arch.key] = trial
        return arch

    def tell(self, trial: Trial) -> None:
        """Pass the scores on; a failed trial of a stranger is only remembered as seen."""
        self._visited.add(trial.arch)
        scores = scores_of(trial, self._objectives)
        own = self._flying.pop(trial.arch.key, None)
        if own is not None:
            given = {"state": self._failed} if scores is None else {"values": list(scores)}
            self._study.tell(own, **given)
        elif scores is not None:
            self._learn(trial.arch, list(scores))

    def _learn(self, arch: Arch, scores: list[float]) -> None:
        """Enter a stranger's trial."""
        if self._whole:  # breeds as one of the present generation, which only an ask enters
            self._study.tell(self._fixed(arch), scores)
            return
        counts = {
            name: count
            for decision in self._space.reached(arch).values()
            for name, count in parameters(decision).items()
        }
        one_of = self._optuna.distributions.CategoricalDistribution
        domains = {name: one_of(range(count)) for name, count in counts.items()}
        create = self._optuna.trial.create_trial
        self._study.add_trial(
            create(params=self._numbers(arch), distributions=domains, values=scores)
        )

    def _read(self, trial: Any) -> Arch:
        def pick(name: str, count: int) -> int:
            return int(trial.suggest_categorical(name, range(count)))

        if self._whole:
            decisions = self._space.decisions.items()
            values = {label: picked(d, pick, self._rng) for label, d in decisions}
            return self._space.sample(self._rng, values)
        return decide(self._space, lambda decision: picked(decision, pick, self._rng), self._rng)

    def _says(self, trial: Any, arch: Arch) -> bool:
        """Return whether the trial's own parameters mean ``arch``, without any repair."""
        return all(trial.params[name] == n for name, n in self._numbers(arch).items())

    def _fixed(self, arch: Arch) -> Any:
        """Begin a trial of a given architecture."""
        self._study.enqueue_trial(self._numbers(arch))
        trial = self._study.ask()
        self._read(trial)
        return trial

    def _numbers(self, arch: Arch) -> dict[str, int]:
        return {
            name: number
            for label, decision in self._space.reached(arch).items()
            for name, number in numbers_of(decision, arch[label]).items()
        }


def optuna_seed(seed: int) -> int:
    """Return a seed that Optuna takes, which is one below 2**32; smaller ones stay as they are."""
    return seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])


def _quiet_study(optuna: Any, sampler: Any, scores: int) -> Any:
    """Return a study in memory, created without the line that the library logs about it."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(directions=["maximize"] * scores, sampler=sampler)
    finally:
        optuna.logging.set_verbosity(level)
