"""One search without its engine: a sampler, its trials in their order of events, and the budget."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from raynas.core.arch import Arch
from raynas.core.errors import Exhausted, Waiting
from raynas.core.evaluator import Measurement
from raynas.core.feasible import Violation
from raynas.core.goals import Goals
from raynas.core.objectives import MissingObjective
from raynas.core.result_cache import ResultCache
from raynas.core.sampler import Diverged, Origin, Sampler, replay
from raynas.core.trial import Status, Trial


@dataclass(frozen=True)
class Asked:
    """An architecture that is to be evaluated.

    Attributes:
        number: of its trial.
        event: place of the ask in the order of asks and tells.
        origin: where it comes from.
        proposer: who proposed it, where that was not the study's sampler: then no ask is an event,
            and the trial has one, its tell.
    """

    number: int
    arch: Arch
    event: int
    origin: Origin = field(default_factory=Origin)
    proposer: str | None = None


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """What all trials of a study have in common."""

    algo: str
    evaluator: str
    epochs: int = 0
    seed: int = 0


class Study:
    """Asks a sampler until the budget is spent, tells it, and hands every told trial to ``sink``.

    No architecture is evaluated twice: one that was told before, or is in flight, gets a trial of
    status ``duplicate`` with the same numbers. A trial reaches ``sink`` before its sampler, so what
    the sampler knows is on disk.

    Scores of different epochs are never compared: a trial that was stopped before the setting's
    epochs is completed with its metrics, but has no objective, so it is never best, and a sampler
    learns of it only that it was seen.

    Args:
        sampler: the ask/tell algorithm, fresh.
        goals: what is maximised or minimised, and within which bounds.
        trials: how many trials to tell in all, those in ``history`` included.
        setting: what stands in every row.
        sink: takes the told trials, in order.
        bounds: on what is known beforehand; an architecture beyond them gets a trial of status
            ``infeasible`` and is never evaluated, unless the sampler says ``beyond_bounds``.
        history: trials of the same study that an earlier run told, perhaps under other bounds
            or weights: they count as those of now judge them. The sampler replays them if it asks
            what was asked then, and is told them as strangers' otherwise.
        make_sampler: makes the sampler again, for a history that it does not replay; without it
            that is an error.
        purpose: in a word, for who looks on.

    Attributes:
        purpose: in a word.
    """

    def __init__(
        self,
        sampler: Sampler,
        goals: Goals,
        *,
        trials: int,
        setting: StudyInfo,
        sink: Callable[[list[Trial]], None],
        bounds: Violation | None = None,
        history: Iterable[Trial] = (),
        make_sampler: Callable[[], Sampler] | None = None,
        purpose: str = "search",
    ) -> None:
        self.goals, self.purpose = goals, purpose
        self.trials = trials
        self.best: Trial | None = None
        self.failure: str | None = None
        self.seed = setting.seed
        self.told = 0
        self.failed = 0
        self._sampler, self._setting, self._sink = sampler, setting, sink
        self._bounds, self._make_sampler = bounds, make_sampler
        beforehand = () if bounds is None else bounds.constraints
        # what an evaluator says itself, as a table of other images may, has to keep them as well
        self._all = replace(goals, constraints=(*goals.constraints, *beforehand))
        self._known = ResultCache()
        self._flying: dict[str, list[Asked]] = {}
        self._in_flight = 0  # counted, since thousands may be, and every ask wants to know
        self._event = self._number = 0
        self._exhausted = False
        self._again = self._recover(sorted(history, key=lambda trial: trial.told_event))

    @property
    def asked(self) -> int:
        """How many trials are told or in flight."""
        return self.told + self._in_flight

    @property
    def startup(self) -> int | None:
        """First asks that depend on no tell; None if none ever does."""
        return self._sampler.startup

    @property
    def note(self) -> str:
        """What the sampler says before its first proposal; empty if nothing."""
        return self._sampler.note()

    @property
    def finished(self) -> bool:
        """Whether nothing more will be asked and nothing is in flight."""
        return not self._flying and (self._spent or self.failure is not None)

    @property
    def _spent(self) -> bool:
        return self._exhausted or self.asked >= self.trials

    def ask(self) -> Asked | None:
        """Return the next architecture to evaluate, or None if there is none to start now."""
        while not self._spent and self.failure is None:
            asked = self._next()
            if asked is None:
                return None
            if (result := self._known.result(asked.arch.key)) is not None:
                self._repeat(asked, result)
            elif (group := self._flying.get(asked.arch.key)) is not None:
                group.append(asked)
                self._in_flight += 1
            elif self._bounds is not None and self._refuses(self._bounds, asked.arch):
                self._refuse(asked, self._bounds.costs(asked.arch))
            else:
                self._flying[asked.arch.key] = [asked]
                self._in_flight += 1
                return asked
        return None

    def propose(self, arch: Arch, proposer: str, origin: Origin | None = None) -> Asked:
        """Return an architecture that somebody else proposes as one that is to be evaluated.

        The sampler learns of it when it is told. That the budget has room, and that the
        architecture is neither told nor in flight, is the caller's to see to.

        Args:
            arch: of the space.
            proposer: what stands as the algorithm in its row.
            origin: where it comes from.
        """
        self._number += 1
        asked = Asked(self._number - 1, arch, self._event, origin or Origin(), proposer)
        self._flying[arch.key] = [asked]
        self._in_flight += 1
        return asked

    def refused(self, asked: Asked) -> Trial | None:
        """Tell an architecture in flight as infeasible if it lies beyond the bounds.

        Those are bounds on what is known of it without a measurement; None keeps it in flight.
        """
        if self._bounds is None or not self._refuses(self._bounds, asked.arch):
            return None
        del self._flying[asked.arch.key]
        self._in_flight -= 1
        return self._refuse(asked, self._bounds.costs(asked.arch))

    def _refuses(self, bounds: Violation, arch: Arch) -> bool:
        return not self._sampler.beyond_bounds and bounds(arch) > 0.0

    def _next(self) -> Asked | None:
        if self._again:
            return self._again.popleft()
        try:
            arch = self._sampler.ask()
        except Exhausted:
            self._exhausted = True
            return None
        except Waiting:
            return None
        self._number += 1
        return Asked(self._number - 1, arch, self._count_event(), self._sampler.origin)

    def tell(
        self, results: Iterable[tuple[Asked, Measurement]], *, node: str = "", worker: str = ""
    ) -> list[Trial]:
        """Record what was measured, tell the sampler, and return the trials."""
        results = list(results)
        trials = [self._trial(asked, found, node, worker) for asked, found in results]
        self._record(trials)
        groups = [self._flying.pop(asked.arch.key) for asked, _ in results]
        self._in_flight -= sum(map(len, groups))
        followers = [follower for group in groups for follower in group[1:]]
        for follower in sorted(followers, key=lambda asked: asked.event):
            result = self._known.result(follower.arch.key)
            assert result is not None
            self._repeat(follower, result)
        return trials

    def _trial(self, asked: Asked, found: Measurement, node: str, worker: str) -> Trial:
        status: Status = "completed"
        scores: tuple[float, ...] = ()
        found = self.goals.checked(found)
        error, measured = found.error, found.metrics
        if error is None:
            try:
                scores = self.goals.scores(found.metrics)
                measured = self._with_bounded(asked.arch, found.metrics)
                status = "completed" if self._all.allow(measured) else "infeasible"
            except MissingObjective as missing:
                error = str(missing)
                if self.best is None:
                    self.failure = error
        if error is not None:
            status = "failed"
        epochs = self._setting.epochs if found.epochs is None else found.epochs
        good = status == "completed" and epochs == self._setting.epochs
        started = datetime.fromtimestamp(found.started_s, UTC)
        asked_event, told_event = self._events(asked)
        return Trial(
            arch=asked.arch,
            number=asked.number,
            status=status,
            objective=self.goals.merged(found.metrics) if good else None,
            scores=scores if good else (),
            metrics=measured,
            text_metrics=found.text_metrics,
            left_out="; ".join(found.unusable.values()) or None,
            asked_event=asked_event,
            told_event=told_event,
            started_utc=started,
            finished_utc=started + timedelta(seconds=found.duration_s),
            duration_s=found.duration_s,
            node=node,
            worker=worker,
            error=error,
            traceback=found.traceback,
            **vars(asked.origin),
            **{**self._setting_of(asked), "epochs": epochs},
        )

    def _events(self, asked: Asked) -> tuple[int, int]:
        """Return the places of an ask and of its tell, which is now."""
        event = self._count_event()
        return event if asked.proposer else asked.event, event

    def _setting_of(self, asked: Asked) -> dict[str, Any]:
        """Return what stands in every row, with who has proposed this one's."""
        return vars(self._setting) | ({"algo": asked.proposer} if asked.proposer else {})

    def _with_bounded(self, arch: Arch, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return the metrics and what costs of bounded ones they lack, so that the row has all."""
        bounds = () if self._bounds is None else self._bounds.constraints
        lacking = [one.metric for one in bounds if one.metric not in metrics]
        if self._bounds is None or not lacking:
            return metrics
        costs = self._bounds.costs(arch)
        return {**metrics, **{name: costs[name] for name in lacking}}

    def judged(self, trial: Trial) -> Trial:
        """Return a trial read from disk as the bounds and weights of now score it."""
        return self.goals.judged(trial, allowed=self._keeps(trial), epochs=self._setting.epochs)

    def _keeps(self, trial: Trial) -> bool:
        """Return whether a trial keeps all bounds; one that lacks a bounded metric does not."""
        cheaply = self._bounds is None or self._bounds(trial.arch) == 0.0
        return cheaply and self._all.keep(self._with_bounded(trial.arch, trial.metrics))

    def _repeat(self, asked: Asked, result: dict[str, Any]) -> None:
        """Tell a trial that asks for what is known already."""
        now = datetime.now(UTC)
        fields = {
            **vars(self._setting),
            **vars(asked.origin),
            **result,
            "arch": asked.arch,
            "number": asked.number,
            "status": "duplicate" if result["status"] == "completed" else result["status"],
            "asked_event": asked.event,
            "told_event": self._count_event(),
            "started_utc": now,
            "finished_utc": now,
        }
        self._record([Trial(**fields)])

    def _refuse(self, asked: Asked, costs: Mapping[str, float]) -> Trial:
        """Tell a trial that lies beyond the bounds, with what is known of it."""
        now = datetime.now(UTC)
        asked_event, told_event = self._events(asked)
        trial = Trial(
            arch=asked.arch,
            number=asked.number,
            status="infeasible",
            metrics=costs,
            asked_event=asked_event,
            told_event=told_event,
            started_utc=now,
            finished_utc=now,
            **vars(asked.origin),
            **{**self._setting_of(asked), "epochs": 0},
        )
        self._record([trial])
        return trial

    def _record(self, trials: list[Trial]) -> None:
        self._sink(trials)
        for trial in trials:
            self._remember(trial)
            self._sampler.tell(trial)

    def _remember(self, trial: Trial) -> None:
        self.told += 1
        self.failed += trial.status == "failed"
        if not self._allowed_now(trial):
            self._known.add(trial)
        if trial.scored and (self.best is None or rank(trial) > rank(self.best)):
            self.best = trial

    def _allowed_now(self, trial: Trial) -> bool:
        """Return whether a trial was refused without a measurement, under bounds of then."""
        if trial.status != "infeasible" or self.goals.measured(trial):
            return False
        return self._bounds is None or self._bounds(trial.arch) == 0.0

    def _count_event(self) -> int:
        self._event += 1
        return self._event - 1

    def _recover(self, history: list[Trial]) -> deque[Asked]:
        """Bring the sampler up to date; return what was in flight, under its old numbers."""
        history = [self.judged(trial) for trial in history]
        for trial in history:
            self._remember(trial)
            self._event = max(self._event, trial.told_event + 1)
        pending = self._caught_up(history)
        taken = {trial.number for trial in history}
        free = (number for number in count() if number not in taken)
        again = deque(Asked(next(free), arch, event, origin) for event, arch, origin in pending)
        self._number = max([*taken, *(asked.number for asked in again)], default=-1) + 1
        return again

    def _caught_up(self, history: list[Trial]) -> list[tuple[int, Arch, Origin]]:
        """Replay, or tell as strangers'; return what was in flight, which strangers' is not."""
        if all(self._own(trial) for trial in history):
            try:
                return replay(self._sampler, history)
            except Diverged:
                if self._make_sampler is None:
                    raise
                self._sampler = self._make_sampler()
        for trial in history:
            self._sampler.tell(trial)
        return []

    def _own(self, trial: Trial) -> bool:
        """Return whether a replay has a place for a trial: asked here, or proposed from outside."""
        return trial.algo == self._setting.algo or trial.asked_event == trial.told_event


def rank(trial: Trial) -> tuple[float, float, int]:
    """Return the key by which trials are ordered: objective, then lower loss, then earlier."""
    objective = trial.objective if trial.objective is not None else float("-inf")
    return objective, -trial.metrics.get("loss", math.inf), -trial.number
