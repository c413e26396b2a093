"""SMASH's proposals (Brock et al., 2017, arXiv:1708.05344): random ones, then near the best."""

from __future__ import annotations

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.deduplicator import Deduplicator
from raynas.core.ranking import scores_of
from raynas.core.sampler import SAMPLERS, Origin, Sampler
from raynas.core.trial import Trial

Best = tuple[float, Arch]


@SAMPLERS.register("perturbation")
class Perturbation(Sampler):
    """Perturbs the best of some random architectures, then walks on from whatever is better.

    Brock, Lim, Ritchie and Weston, 2017, arXiv:1708.05344, section 4: architectures are drawn at
    random, the best of them is perturbed many times, and a Markov chain goes on from there, in
    which a perturbation that scores better is the next state. Differs: the chain goes on for as
    long as it is asked; any number may be in flight, and the state is whatever is best when one is
    asked; no architecture is proposed twice.

    Args:
        space: what is searched.
        seed: fixes the run.
        random: the first so many asks are random (ours, for runs of 100 trials; the paper's 500).
        perturbations: so many asks then change the best of those (ours; the paper's 100, and 100
            steps of the chain).
        changes: decisions changed one after the other in a perturbation (ours).

    Raises:
        ValueError: unless random >= 1, perturbations >= 0 and changes >= 1.
    """

    def __init__(
        self,
        space: ArchSpace,
        *,
        seed: int,
        random: int = 25,
        perturbations: int = 15,
        changes: int = 1,
    ) -> None:
        for name, value, least in (
            ("random", random, 1),
            ("perturbations", perturbations, 0),
            ("changes", changes, 1),
        ):
            if value < least:
                raise ValueError(f"expected {name} >= {least}, got {value}")
        self.startup = self._random = random
        self._space, self._perturbations, self._changes = space, perturbations, changes
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)
        self.origin = Origin()
        self._best: Best | None = None
        self._centre: Best | None = None  # the best when the random ones were asked
        self._asked = 0

    def ask(self) -> Arch:
        """Return a random architecture at first, then one near the best."""
        self._asked += 1
        self.origin = Origin()
        state = self._state()
        if state is None:
            return self._visited.propose(lambda: self._space.sample(self._rng))
        _, arch = state
        child = self._visited.propose(lambda: self._perturbed(arch))
        if self._visited.drawn:
            self.origin = Origin(arch.key)
        return child

    def _state(self) -> Best | None:
        """Return what is perturbed now; None while all is random, or nothing is scored."""
        if self._asked <= self._random:
            return None
        if self._asked > self._random + self._perturbations:
            return self._best
        if self._centre is None:
            self._centre = self._best
        return self._centre

    def _perturbed(self, arch: Arch) -> Arch:
        for _ in range(self._changes):
            arch = self._space.mutate(arch, self._rng)
        return arch

    def tell(self, trial: Trial) -> None:
        """Move to the architecture if it is the best; a failed one is only seen."""
        self._visited.add(trial.arch)
        scores = scores_of(trial)
        if scores is not None and (self._best is None or scores[0] > self._best[0]):
            self._best = scores[0], trial.arch
