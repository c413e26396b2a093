"""What decides: the ask/tell protocol of discrete search, its registry, and recovery by replay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.capabilities import refuse_misspelt
from raynas.core.errors import Exhausted
from raynas.core.feasible import Cheap
from raynas.core.goals import Goals
from raynas.core.registry import Registry
from raynas.core.trial import Trial


@dataclass(frozen=True)
class Origin:
    """Where a proposal comes from.

    Attributes:
        parent: key of the told architecture that it was changed from; with several parents, of the
            first; None if it was drawn anew.
        predicted: the objective that a model expects of it, as the ``objective`` of a trial is
            given: to be maximised; None without such a model.
    """

    parent: str | None = None
    predicted: float | None = None


@dataclass(frozen=True, kw_only=True)
class SearchFacts:
    """What a search knows of itself before it begins.

    Attributes:
        goals: objectives, and constraints that only an evaluation decides.
        metrics: that the evaluator always gives.
        costs: of an architecture, without evaluating it; None where nothing is known.
    """

    goals: Goals
    metrics: tuple[str, ...]
    costs: Cheap | None = None


class Sampler(ABC):
    """Proposes architectures and learns from trials, in whatever order they finish.

    Any number may be in flight; trials of architectures that it never proposed, and failed ones
    without an objective, may be told as well.

    Attributes:
        startup: how many first asks do not depend on any tell, so that those can be sent out in
            larger batches; None, already of the class: no ask ever does.
        origin: where the last answer of ``ask`` came from.
        multi_objective: whether it takes an option ``objectives``, the names of several scores.
        library: distribution whose release decides as well what is proposed.
        beyond_bounds: whether what it asks is evaluated even where it breaks the space's bounds.
    """

    startup: int | None = 0
    origin: Origin = Origin()
    multi_objective: ClassVar[bool] = False
    library: ClassVar[str | None] = None
    beyond_bounds: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_misspelt(cls.__name__, vars(cls), Sampler)

    @abstractmethod
    def ask(self) -> Arch:
        """Propose an architecture.

        Raises:
            Exhausted: there is none left, for good.
            Waiting: of a sampler that was informed: not before it is told what it has asked.
        """

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """Learn from a finished trial."""

    def inform(self, facts: SearchFacts) -> None:
        """Learn what the search knows of itself, before the first ask.

        Raises:
            ValueError: it cannot go about such a search.
        """
        return  # most need no more than they were made with

    def note(self) -> str:
        """Return what is to be said before the first proposal; empty if there is nothing."""
        return ""


class SamplerFactory(Protocol):
    """How a registered sampler is made: from a space, a seed, and its own options."""

    def __call__(self, space: ArchSpace, *, seed: int, **options: Any) -> Sampler:
        """Return a sampler of ``space`` whose random stream is fixed by ``seed``."""
        ...


SAMPLERS: Registry[SamplerFactory] = Registry(
    "algorithm", "raynas.algorithms", group="raynas.samplers", base=Sampler
)


def sampler_class(name: str) -> type[Sampler]:
    """Return the class of a registered sampler, which says what all of its kind can do.

    Raises:
        UnknownName: there is none of this name.
    """
    made: type[Sampler] = SAMPLERS.class_of(name)
    return made


class Diverged(Exception):
    """A sampler does not ask what the recorded run asked."""


def replay(sampler: Sampler, history: Iterable[Trial]) -> list[tuple[int, Arch, Origin]]:
    """Bring a fresh sampler to where the recorded run stopped.

    Asks and tells are repeated in their recorded order, so that the sampler's stream of random
    numbers and its state are those of a run that never stopped.

    Args:
        sampler: made with the same space, seed and options as the recorded run's.
        history: the told trials, in any order.

    Returns:
        Event number, architecture and origin of what was asked but never told, in the order of
        events: evaluate those first.

    Raises:
        Diverged: it asks otherwise, as under other bounds; it is of no use then, for it takes what
            it asked here as proposed.
    """
    trials = list(history)
    told = {trial.told_event: trial for trial in trials}
    asked = {trial.asked_event: trial.arch for trial in trials}
    pending = []
    for event in range(max(told, default=-1) + 1):
        if event in told:
            sampler.tell(told[event])
            continue
        try:
            arch = sampler.ask()
        except Exhausted as error:
            raise Diverged(f"event {event}: nothing is left to ask") from error
        if event not in asked:
            pending.append((event, arch, sampler.origin))
        elif arch.key != asked[event].key:
            raise Diverged(f"event {event}: asked {arch}, not {asked[event]}")
    return pending
