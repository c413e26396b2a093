"""Local search with restarts (White, Nolen and Savani, 2021, arXiv:2005.02960)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.deduplicator import Deduplicator
from raynas.core.neighbours import neighbours
from raynas.core.ranking import scores_of
from raynas.core.sampler import SAMPLERS, Origin, Sampler
from raynas.core.trial import Trial


@SAMPLERS.register("local_search")
class LocalSearch(Sampler):
    """Moves to the first better neighbour, and starts anew at random where there is none.

    A neighbour differs in one decision; neighbours are tried in random order. Differs: a climb
    starts from the best of a few random architectures; a better architecture is moved to whoever
    proposed it; scores known from earlier climbs are used, so that no architecture is proposed
    twice; while the last neighbours are in flight, new starts are scored ahead; what a changed
    decision newly opens is drawn once, not enumerated.

    Args:
        space: what is searched.
        seed: fixes the run.
        starts: a climb starts from the best of so many (ours; the paper has 1).

    Raises:
        ValueError: unless starts >= 1.
    """

    def __init__(self, space: ArchSpace, *, seed: int, starts: int = 6) -> None:
        if starts < 1:
            raise ValueError(f"expected starts >= 1, got {starts}")
        self.startup = starts
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._visited = Deduplicator(space, self._rng)
        self.origin = Origin()
        self._known: dict[str, float] = {}  # score by the canonical architecture's key
        self._here: tuple[float, Arch] | None = None
        self._left: Iterator[Arch] = iter(())  # neighbours still to try
        self._flying: set[str] = set()  # neighbours being scored
        self._starts: deque[tuple[float, Arch]] = deque(maxlen=starts)  # of the next climb

    def ask(self) -> Arch:
        """Return an unseen neighbour of where the climb stands, else a random start."""
        self.origin = Origin()
        while True:
            while (arch := next(self._left, None)) is not None:
                if self._visited.is_open(arch):
                    self._visited.add(arch)
                    self._flying.add(self._name(arch))
                    self.origin = Origin(self._here and self._here[1].key)
                    return arch
                self._climb_if_better(arch)
            if self._flying or not self._restarted():
                return self._visited.propose(lambda: self._space.sample(self._rng))

    def tell(self, trial: Trial) -> None:
        """Move if the architecture is better; a failed one is only seen."""
        self._visited.add(trial.arch)
        name = self._name(trial.arch)
        neighbour = name in self._flying
        self._flying.discard(name)
        if (scores := scores_of(trial)) is None:
            return
        told = scores[0], trial.arch
        self._known[name] = scores[0]
        if self._here is not None and told[0] > self._here[0]:
            self._climb_from(*told)
        elif not neighbour:
            self._starts.append(told)
            if self._here is None:
                self._restarted()

    def _climb_from(self, score: float, arch: Arch) -> None:
        self._here = score, arch
        self._left = neighbours(self._space, arch, self._rng)

    def _climb_if_better(self, arch: Arch) -> None:
        """Move to an architecture that was scored before, if its turn comes and it is better."""
        score = self._known.get(self._name(arch))
        if self._here is not None and score is not None and score > self._here[0]:
            self._climb_from(score, arch)

    def _restarted(self) -> bool:
        """Leave a peak for the best start, once enough are scored; return whether they are."""
        self._here = None
        if len(self._starts) == self.startup:
            self._climb_from(*max(self._starts, key=lambda start: start[0]))
            self._starts.clear()
        return self._here is not None

    def _name(self, arch: Arch) -> str:
        return self._space.canonical(arch).key
