"""The study: budget, duplicates, order of events, failures, and going on after a stop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import numpy as np
import pytest

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.constraints import Constraint
from raynas.core.errors import Exhausted
from raynas.core.evaluator import Measurement
from raynas.core.feasible import Violation
from raynas.core.goals import Goals
from raynas.core.objectives import Objective
from raynas.core.sampler import SAMPLERS, Diverged, Sampler
from raynas.core.study import Asked, Study, StudyInfo, rank
from raynas.core.trial import Trial

SPACE = ArchSpace.of(x=list(range(10)), y=list(range(10)))
TIMES = {"started_utc", "finished_utc", "duration_s"}


def value(arch: Arch) -> float:
    """Return a score that every pair of numbers has for itself."""
    return float(np.sin(7 * int(arch["x"]) + 3 * int(arch["y"]) + 1))  # type: ignore[arg-type]


def measured(arch: Arch) -> Measurement:
    """Return a measurement; architectures on the diagonal fail."""
    if arch["x"] == arch["y"]:
        return Measurement(error="RuntimeError: no memory", started_s=1.0, duration_s=0.5)
    metrics = {"accuracy": value(arch), "loss": -value(arch)}
    return Measurement(metrics=metrics, started_s=1.0, duration_s=0.5)


class Scripted(Sampler):
    """Asks for what it was given, and remembers what it was told."""

    startup = None

    def __init__(self, archs: Iterable[Arch]) -> None:
        self.script = iter(list(archs))
        self.log: list[Arch | Trial] = []

    def ask(self) -> Arch:
        """Return the next of the script."""
        for arch in self.script:
            self.log.append(arch)
            return arch
        raise Exhausted("the script is over")

    def tell(self, trial: Trial) -> None:
        """Remember it."""
        self.log.append(trial)

    @property
    def told(self) -> list[Trial]:
        """What it was told."""
        return [entry for entry in self.log if isinstance(entry, Trial)]


class Clumsy(Sampler):
    """Draws from a handful at random, so that most of its asks are duplicates."""

    startup = None

    def __init__(self, space: ArchSpace, *, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def ask(self) -> Arch:
        """Return one of twelve."""
        return arch(int(self.rng.integers(3)), int(self.rng.integers(4)))

    def tell(self, trial: Trial) -> None:
        """Let the tell change what comes next."""
        self.rng.integers(2, size=1 + trial.told_event % 3)


def arch(x: int, y: int) -> Arch:
    """Return an architecture of SPACE."""
    return Arch({"x": x, "y": y})


def study(
    sampler: Sampler,
    trials: int,
    sink: Callable[[list[Trial]], None] | None = None,
    history: Iterable[Trial] = (),
    *,
    algo: str = "toy",
    goal: Objective = Objective("accuracy"),  # noqa: B008 - frozen
) -> Study:
    """Return a study of SPACE."""
    setting = StudyInfo(algo=algo, evaluator="function", epochs=3, seed=5)
    rows: list[Trial] = []
    keep = sink or rows.extend
    goals = Goals((goal,))
    return Study(sampler, goals, trials=trials, setting=setting, sink=keep, history=history)


def finish(run: Study) -> list[Trial]:
    """Evaluate one after the other until the study ends."""
    told: list[Trial] = []
    while (asked := run.ask()) is not None:
        told += run.tell([(asked, measured(asked.arch))])
    assert run.finished
    return told


def ask(run: Study) -> Asked:
    """Ask for one that must come."""
    asked = run.ask()
    assert asked is not None
    return asked


# --- budget ---------------------------------------------------------------------------------------


def test_the_budget_is_told_exactly() -> None:
    rows: list[Trial] = []
    run = study(Scripted(arch(0, y) for y in range(10)), 7, rows.extend)
    assert not run.finished
    finish(run)
    assert len(rows) == run.told == run.asked == 7
    assert [row.number for row in rows] == list(range(7))


def test_nothing_more_is_started_than_the_budget_holds() -> None:
    run = study(Scripted(arch(0, y) for y in range(1, 10)), 3)
    flying = [ask(run) for _ in range(3)]
    assert run.ask() is None
    assert not run.finished
    assert run.asked == 3
    run.tell([(asked, measured(asked.arch)) for asked in flying])
    assert run.finished
    assert run.told == 3


def test_an_exhausted_sampler_ends_the_study() -> None:
    run = study(Scripted([arch(0, 1), arch(0, 2)]), 100)
    flying = [ask(run), ask(run)]
    assert run.ask() is None
    assert not run.finished
    run.tell([(asked, measured(asked.arch)) for asked in flying])
    assert run.finished
    assert run.told == 2


# --- rows -----------------------------------------------------------------------------------------


def test_a_row_says_what_was_asked_and_measured() -> None:
    run = study(Scripted([arch(1, 2)]), 1, goal=Objective("loss", "min"))
    (row,) = run.tell(
        [(ask(run), Measurement(metrics={"loss": 0.25}, started_s=10.5, duration_s=2.0))],
        node="host",
        worker="17",
    )
    assert (row.arch, row.number, row.status) == (arch(1, 2), 0, "completed")
    assert (row.objective, row.metrics) == (-0.25, {"loss": 0.25})
    assert (row.algo, row.evaluator, row.epochs, row.seed) == ("toy", "function", 3, 5)
    assert (row.asked_event, row.told_event) == (0, 1)
    assert (row.started_utc.timestamp(), row.finished_utc.timestamp()) == (10.5, 12.5)
    assert (row.duration_s, row.node, row.worker, row.error) == (2.0, "host", "17", None)


def test_a_failed_evaluation_is_a_failed_row_and_the_study_goes_on() -> None:
    sampler = Scripted([arch(0, 0), arch(0, 1)])
    run = study(sampler, 2)
    failed, good = finish(run)
    assert (failed.status, failed.objective) == ("failed", None)
    assert failed.error == "RuntimeError: no memory"
    assert good.status == "completed"
    assert (run.told, run.failed, run.failure) == (2, 1, None)
    assert sampler.told == [failed, good]
    assert run.best == good


def test_events_are_numbered_in_the_order_in_which_they_happen() -> None:
    sampler = Scripted(arch(0, y) for y in range(1, 10))
    run = study(sampler, 9)
    flying = [ask(run) for _ in range(3)]
    run.tell([(flying[i], measured(flying[i].arch)) for i in (2, 0)])
    flying = [flying[1], ask(run)]
    run.tell([(flying[1], measured(flying[1].arch))])
    while (asked := run.ask()) is not None:
        run.tell([(asked, measured(asked.arch))])
    run.tell([(flying[0], measured(flying[0].arch))])
    assert run.finished
    events: dict[int, Arch | Trial] = {}
    for trial in sampler.told:
        events |= {trial.asked_event: trial.arch, trial.told_event: trial}
    assert len(sampler.told) == 9
    assert [events[event] for event in range(18)] == sampler.log


def test_a_batch_is_handed_to_the_sink_at_once_and_before_the_sampler_is_told() -> None:
    batches: list[list[Trial]] = []
    sampler = Scripted([arch(0, 1), arch(0, 2)])

    def sink(trials: list[Trial]) -> None:
        assert sampler.told == []
        batches.append(list(trials))

    run = study(sampler, 2, sink)
    told = run.tell([(asked, measured(asked.arch)) for asked in (ask(run), ask(run))])
    assert batches == [told]
    assert sampler.told == told


def test_what_the_sink_does_not_take_no_sampler_is_told() -> None:
    sampler = Scripted([arch(0, 1)])

    def full(trials: list[Trial]) -> None:
        raise OSError(f"no space left for {len(trials)} trials")

    run = study(sampler, 1, full)
    asked = ask(run)
    with pytest.raises(OSError, match="no space left"):
        run.tell([(asked, measured(asked.arch))])
    assert sampler.told == []
    assert run.told == 0


# --- duplicates -----------------------------------------------------------------------------------


def test_what_was_told_is_not_evaluated_again() -> None:
    rows: list[Trial] = []
    script = [arch(0, 1), arch(0, 1), arch(0, 0), arch(0, 2), arch(0, 0)]
    sampler = Scripted(script)
    run = study(sampler, 5, rows.extend)
    evaluated = finish(run)
    assert [trial.arch for trial in evaluated] == [arch(0, 1), arch(0, 0), arch(0, 2)]
    assert [row.arch for row in rows] == script
    states = ["completed", "duplicate", "failed", "completed", "failed"]
    assert [row.status for row in rows] == states
    first, again = rows[:2]
    assert (again.objective, again.metrics) == (first.objective, first.metrics)
    assert (again.number, again.asked_event, again.told_event) == (1, 2, 3)
    assert again.duration_s == 0.0
    assert again.started_utc == again.finished_utc > first.finished_utc
    assert rows[4].error == rows[2].error
    assert sampler.told == rows
    assert run.told == 5


def test_what_is_in_flight_is_not_started_again() -> None:
    rows: list[Trial] = []
    run = study(Scripted([arch(0, 1), arch(0, 1), arch(0, 1), arch(0, 2)]), 4, rows.extend)
    first, other = ask(run), ask(run)
    assert (first.arch, other.arch) == (arch(0, 1), arch(0, 2))
    assert run.asked == 4
    assert run.ask() is None
    assert run.tell([(first, measured(first.arch))]) == rows[:1]
    assert [row.number for row in rows] == [0, 1, 2]
    assert [row.status for row in rows] == ["completed", "duplicate", "duplicate"]
    assert [(row.asked_event, row.told_event) for row in rows] == [(0, 4), (1, 5), (2, 6)]
    assert not run.finished
    run.tell([(other, measured(other.arch))])
    assert run.finished


def test_a_sampler_that_only_repeats_itself_ends_with_the_budget() -> None:
    rows: list[Trial] = []
    run = study(Scripted(itertools.repeat(arch(0, 1), 50)), 20, rows.extend)
    assert len(finish(run)) == 1
    assert len(rows) == 20


# --- objective ------------------------------------------------------------------------------------


def test_an_objective_that_is_never_measured_stops_the_study() -> None:
    run = study(Scripted(arch(0, y) for y in range(1, 10)), 9, goal=Objective("acuracy"))
    flying = [ask(run), ask(run)]
    (row,) = run.tell([(flying[0], measured(flying[0].arch))])
    told = "the evaluator returns no metric 'acuracy', the objective; did you mean 'accuracy'?"
    assert run.failure == row.error == told
    assert (row.status, row.objective) == ("failed", None)
    assert row.metrics == measured(flying[0].arch).metrics
    assert run.ask() is None
    assert not run.finished
    run.tell([(flying[1], measured(flying[1].arch))])
    assert run.finished
    assert run.told == 2


def test_one_row_without_the_objective_among_others_is_a_failure_of_its_own() -> None:
    run = study(Scripted(arch(0, y) for y in range(1, 4)), 3)
    run.tell([(asked := ask(run), measured(asked.arch))])
    (row,) = run.tell([(ask(run), Measurement(metrics={"loss": 1.0}))])
    assert row.status == "failed"
    assert run.failure is None
    assert len(finish(run)) == 1


def test_the_best_is_the_highest_then_the_one_of_lower_loss_then_the_earlier() -> None:
    run = study(Scripted(arch(0, y) for y in range(5)), 5)
    flying = [ask(run) for _ in range(5)]
    numbers = [(0.5, 3.0), (0.5, 2.0), (0.5, 2.0), (0.25, 0.0), (0.5, 2.5)]
    results = [
        (asked, Measurement(metrics={"accuracy": accuracy, "loss": loss}))
        for asked, (accuracy, loss) in zip(flying, numbers, strict=True)
    ]
    told = run.tell([results[i] for i in (3, 4, 2, 0, 1)])
    assert run.best is not None
    assert run.best.number == 1
    assert sorted((row.number for row in told), key=lambda n: n) == [0, 1, 2, 3, 4]
    order = sorted(told, key=rank, reverse=True)
    assert [row.number for row in order] == [1, 2, 4, 0, 3]
    assert math.isinf(rank(Trial.failed(arch(0, 0), "no memory"))[0])


# --- going on after a stop ------------------------------------------------------------------------


def timeless(trials: Iterable[Trial]) -> list[dict[str, object]]:
    """Return rows without what the clock says."""
    names = [field.name for field in fields(Trial) if field.name not in TIMES]
    return [{name: getattr(trial, name) for name in names} for trial in trials]


class Loop:
    """Keeps several in flight and tells them in an order that depends on nothing but the rows."""

    def __init__(self, run: Study, flying: Iterable[Asked] = ()) -> None:
        self.run, self.flying = run, list(flying)

    def fill(self, workers: int) -> None:
        """Start as many as there are workers."""
        while len(self.flying) < workers and (asked := self.run.ask()) is not None:
            self.flying.append(asked)
        self.flying.sort(key=lambda asked: asked.event)

    def tell(self) -> None:
        """Finish one or two."""
        batch = []
        for k in range(1 + self.run.told % 2):
            if self.flying:
                batch.append(self.flying.pop((5 * self.run.told + k) % len(self.flying)))
        self.run.tell([(asked, measured(asked.arch)) for asked in batch])


def test_clumsy_is_clumsy() -> None:
    rows: list[Trial] = []
    finish(study(Clumsy(SPACE, seed=0), 40, rows.extend))
    assert len(rows) == 40
    assert len({row.arch for row in rows}) <= 12


MAKERS: dict[str, Callable[..., Sampler]] = {"clumsy": Clumsy, **SAMPLERS}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("workers", [1, 3, 6])
@pytest.mark.parametrize("name", list(MAKERS))
def test_going_on_after_a_stop_equals_never_stopping(name: str, workers: int, seed: int) -> None:
    """Stopped after each write of the sink in turn, with what was in flight then."""
    trials = 30
    writes: list[list[Trial]] = []
    whole = Loop(study(MAKERS[name](SPACE, seed=seed), trials, writes.append, algo=name))
    while not whole.run.finished:
        whole.fill(workers)
        whole.tell()
    rows = [row for write in writes for row in write]
    assert len(rows) == trials
    for stop in range(len(writes) + 1):
        history = [row for write in writes[:stop] for row in write]
        after = list(history)
        resumed = study(
            MAKERS[name](SPACE, seed=seed), trials, after.extend, reversed(history), algo=name
        )
        assert resumed.told == len(history)
        loop = Loop(resumed)
        while not resumed.finished:
            loop.fill(workers)
            loop.tell()
        assert timeless(after) == timeless(rows)
        assert resumed.best is not None
        assert whole.run.best is not None
        assert resumed.best.number == whole.run.best.number


@pytest.mark.parametrize("name", list(MAKERS))
def test_what_was_in_flight_comes_first_under_its_old_number_and_event(name: str) -> None:
    history: list[Trial] = []
    loop = Loop(study(MAKERS[name](SPACE, seed=0), 36, history.extend, algo=name))
    stops = 0
    for _ in range(12):
        loop.fill(4)
        loop.tell()
        last = max(row.told_event for row in history)
        lost = [asked for asked in loop.flying if asked.event < last]
        resumed = study(MAKERS[name](SPACE, seed=0), 36, None, history, algo=name)
        assert [ask(resumed) for _ in lost] == lost
        stops += len(lost) > 0
    assert stops > 3


def test_a_history_of_another_algorithm_is_told_as_strangers() -> None:
    rows: list[Trial] = []
    finish(study(Scripted(arch(0, y) for y in range(4)), 4, rows.extend, algo="before"))
    sampler = Scripted([arch(0, 2), arch(1, 2)])
    run = study(sampler, 6, rows.extend, rows[:4], algo="after")
    assert sampler.log == rows[:4]
    assert run.told == 4
    assert run.best == max(rows, key=rank)
    finish(run)
    assert [row.status for row in rows[4:]] == ["duplicate", "completed"]
    assert [row.number for row in rows] == list(range(6))
    assert [row.algo for row in rows] == ["before"] * 4 + ["after"] * 2
    assert sorted(e for row in rows for e in (row.asked_event, row.told_event)) == list(range(12))


def test_a_finished_study_is_finished_when_it_is_opened_again() -> None:
    rows: list[Trial] = []
    finish(study(Scripted(arch(0, y) for y in range(4)), 4, rows.extend))
    again = study(Scripted(arch(0, y) for y in range(4)), 4, rows.extend, list(rows))
    assert again.finished
    assert again.ask() is None
    more = study(Scripted(arch(0, y) for y in range(9)), 6, rows.extend, list(rows))
    finish(more)
    assert [row.arch for row in rows] == [arch(0, y) for y in range(6)]


# --- going on under other bounds ------------------------------------------------------------------


def load(arch: Arch) -> float:
    """Return what bounds are on: from 0 to 18."""
    return float(int(arch["x"]) + int(arch["y"]))  # type: ignore[arg-type]


def under(
    constraint: Constraint,
    rows: list[Trial],
    trials: int,
    *,
    cheap: bool = False,
    name: str = "random",
) -> Study:
    """Return a study that goes on from ``rows``; a cheap bound is known to its sampler."""
    violation = Violation([constraint], lambda arch: {"load": load(arch)}) if cheap else None
    space = replace(SPACE, violation=violation)

    def fresh() -> Sampler:
        return SAMPLERS[name](space, seed=0)

    return Study(
        fresh(),
        Goals((Objective("accuracy"),), constraints=() if cheap else (constraint,)),
        trials=trials,
        setting=StudyInfo(algo=name, evaluator="function"),
        sink=rows.extend,
        bounds=violation,
        history=list(rows),
        make_sampler=fresh,
    )


def loaded(run: Study) -> None:
    """Evaluate until the study ends; what is loaded most is best."""
    while (asked := run.ask()) is not None:
        metrics = {"accuracy": load(asked.arch) / 18, "load": load(asked.arch)}
        run.tell([(asked, Measurement(metrics=metrics))])


@pytest.mark.parametrize("cheap", [False, True])
def test_what_breaks_the_bounds_of_now_is_not_the_best(cheap: bool) -> None:
    rows: list[Trial] = []
    wide = under(Constraint("load", high=15.0), rows, 60, cheap=cheap)
    loaded(wide)
    before = list(rows)
    tight = under(Constraint("load", high=6.0), rows, 60, cheap=cheap)
    assert wide.best is not None
    assert tight.best is not None
    assert load(wide.best.arch) > 6
    assert load(tight.best.arch) == max(m for row in rows if (m := load(row.arch)) <= 6)
    assert rows == before  # what is on disk stays
    assert under(Constraint("load", high=-1.0), rows, 60).best is None


def test_what_broke_the_bounds_of_then_alone_is_scored_again() -> None:
    rows: list[Trial] = []
    loaded(under(Constraint("load", high=6.0), rows, 60))
    wide = under(Constraint("load", high=15.0), rows, 60)
    assert wide.best is not None
    assert load(wide.best.arch) == max(m for row in rows if (m := load(row.arch)) <= 15) > 6
    assert (wide.best.status, wide.best.objective) == ("completed", load(wide.best.arch) / 18)
    assert wide.best.scores == (wide.best.objective,)


def test_a_sampler_is_told_what_the_bounds_of_now_say() -> None:
    rows: list[Trial] = []
    loaded(under(Constraint("load", high=15.0), rows, 40))
    sampler = Scripted(row.arch for row in rows)
    goals = Goals((Objective("accuracy"),), constraints=(Constraint("load", high=6.0),))
    setting = StudyInfo(algo="random", evaluator="function")
    Study(sampler, goals, trials=40, setting=setting, sink=rows.extend, history=rows)
    assert [one.scored for one in sampler.told] == [load(row.arch) <= 6 for row in rows]
    beyond = [one for one in sampler.told if not one.scored]
    assert {(one.status, one.scores) for one in beyond} == {("infeasible", ())}


@pytest.mark.parametrize("name", ["random", "regularized_evolution", "local_search"])
def test_other_bounds_lose_no_architecture(name: str) -> None:
    rows: list[Trial] = []
    loaded(under(Constraint("load", low=12.0), rows, 8, cheap=True, name=name))
    inside = {one for one in SPACE if load(one) <= 12}
    for trials in (40, 200):  # the second goes on from asks under both bounds
        loaded(under(Constraint("load", high=12.0), rows, trials, cheap=True, name=name))
    assert {row.arch for row in rows} >= inside
    assert all(row.arch in inside for row in rows[8:])
    assert len({row.arch for row in rows}) == len(rows)
    assert len({row.number for row in rows}) == len(rows)


def test_a_history_that_is_not_replayed_needs_a_sampler_anew() -> None:
    rows: list[Trial] = []
    finish(study(Scripted(arch(0, y) for y in range(4)), 4, rows.extend))
    with pytest.raises(Diverged, match="event 0"):
        study(Scripted([arch(5, 5)]), 6, rows.extend, list(rows))
