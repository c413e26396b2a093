"""The live line: how many, the best, how fast, and when it will be over; and who gets the news."""

from __future__ import annotations

import inspect
import sys
import time
from importlib.machinery import ModuleSpec
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

import raynas
from raynas.cluster import train as cluster_train
from raynas.core.progress import Progress, ProgressGroup, RunInfo, RunSummary
from raynas.report.console import Line, redraws
from raynas.report.pace import WINDOW, Pace
from raynas.storage.table_writers import HistoryStore
from tests.inline import INLINE

SPACE = raynas.ArchSpace.of(depth=list(range(1, 11)))


class Clock:
    """A clock that goes when it is told to."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now_s


def line(clock: Clock, **options: Any) -> tuple[Line, StringIO]:
    told = StringIO()
    console = Console(file=told, width=120, color_system=None, **options)
    return Line(console, clock=clock), told


def row(epoch: int, **more: Any) -> dict[str, Any]:
    return {"epoch": float(epoch), "loss": 0.5, "accuracy": 0.25, **more}


def test_nothing_is_foretold_before_the_second_news() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.update(40)  # an earlier run did these
    assert [pace.per_s, pace.left_s(100)] == [None, None]
    clock.now_s += 10
    pace.update(40)  # still as many
    assert [pace.per_s, pace.left_s(100)] == [None, None]
    clock.now_s += 10
    pace.update(60)
    assert [pace.per_s, pace.left_s(100)] == [1.0, 40.0]
    assert pace.left_s(50) == 0.0, "more were done than were asked for"


def test_the_pace_follows_the_latest_news() -> None:
    clock = Clock()
    pace = Pace(clock)
    for done in range(100):
        clock.now_s += 1.0
        pace.update(done)
    for done in range(100, 100 + WINDOW):
        clock.now_s += 4.0
        pace.update(done)
    assert pace.per_s == 0.25


def test_the_duration_of_the_first_epoch_stands_in_for_earlier_news() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.update(1, took_s=8.0)
    assert (pace.per_s, pace.left_s(11)) == (0.125, 80.0)


def test_lines_of_epochs_say_how_fast_and_what_is_left() -> None:
    clock = Clock()
    shown, told = line(clock)
    shown.phase("training [grey]")
    for epoch in range(4):
        clock.now_s += 90
        shown.trained(row(epoch), 4)
    shown.close()
    assert told.getvalue().splitlines() == [
        "training [grey]  0 s",
        "supernet 1/4  loss 0.500  accuracy 25.0 %  90 s",
        "supernet 2/4  loss 0.500  accuracy 25.0 %  1:30 min/epoch  180 s  3:00 min left",
        "supernet 3/4  loss 0.500  accuracy 25.0 %  1:30 min/epoch  270 s  1:30 min left",
        "supernet 4/4  loss 0.500  accuracy 25.0 %  1:30 min/epoch  360 s",
    ]


def test_plain_lines_come_now_and_then_and_at_the_end() -> None:
    clock = Clock()
    shown, told = line(clock)
    for epoch in range(100):
        clock.now_s += 0.5
        shown.trained(row(epoch), 100)
    counts = [text.split()[1] for text in told.getvalue().splitlines()]
    assert counts == [f"{n}/100" for n in (*range(1, 100, 10), 100)]


def test_what_an_algorithm_says_stands_on_lines_of_its_own() -> None:
    for terminal in (False, True):
        shown, told = line(Clock(), force_terminal=terminal)
        shown.trained(row(0, notes="normal: [1 0]\nreduce: [1 1]"), 4)
        shown.close()
        said = told.getvalue().splitlines()
        assert any(text.endswith("normal: [1 0]") for text in said)
        assert "reduce: [1 1]" in said


class Slow(Progress):
    """Lets time pass before each trial is shown."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def told(self, study: Any) -> None:
        """Let two seconds pass."""
        self.clock.now_s += 2.0


def test_a_terminal_shows_the_best_the_pace_and_the_time_left(tmp_path: Path) -> None:
    clock = Clock()
    shown, told = line(clock, force_terminal=True, legacy_windows=False)
    raynas.search(
        SPACE,
        "grid",
        evaluator=lambda arch: {"accuracy": 0.4 if arch else 0.0},
        trials=8,
        out=str(tmp_path),
        ray=INLINE,
        progress=ProgressGroup([Slow(clock), shown]),
    )
    (task,) = shown._bar.tasks
    assert (task.completed, task.total) == (8, 8)
    assert task.fields == {
        "count": "8/8",
        "news": "best accuracy 40.00 %",
        "pace": "2 s/trial",
        "left": "",
    }
    assert "search" in told.getvalue()
    assert "8/8 best accuracy 40.00 % 2 s/trial" in told.getvalue()


def test_what_an_earlier_run_told_is_shown_at_once_and_takes_no_time(tmp_path: Path) -> None:
    def search(trials: int, **more: Any) -> None:
        raynas.search(
            SPACE,
            "grid",
            evaluator=lambda arch: {"accuracy": 0.4 if arch else 0.0},
            trials=trials,
            out=str(tmp_path),
            ray=INLINE,
            **more,
        )

    search(4)
    shown, told = line(Clock())
    search(6, resume=True, progress=shown)
    said = told.getvalue().splitlines()
    assert said[0] == "search 4/6  best accuracy 40.00 %  0 s"
    assert said[-1].startswith("search 6/6  best accuracy 40.00 %")


def test_a_notebook_redraws_only_with_ipywidgets(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Console(file=StringIO(), force_jupyter=True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert not redraws(notebook)
    assert Line(notebook)._bar.disable, "lines are printed instead"
    widgets = ModuleType("ipywidgets")
    widgets.__spec__ = ModuleSpec("ipywidgets", None)
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    assert redraws(notebook)


@pytest.mark.parametrize(("term", "redrawn"), [("xterm", True), ("dumb", False)])
def test_a_terminal_that_cannot_go_back_gets_lines(term: str, redrawn: bool) -> None:
    console = Console(
        file=StringIO(), force_terminal=True, force_jupyter=False, _environ={"TERM": term}
    )
    assert redraws(console) is redrawn


class Recorder(Progress):
    """Remembers what it is handed; one kind of news may fail."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[str] = []
        for name in NEWS:
            setattr(self, name, self._taking(name, fails))

    def _taking(self, name: str, fails: str) -> Any:
        def take(*_: Any) -> None:
            self.calls.append(name)
            if name == fails:
                raise OSError(f"{name} failed")

        return take


HANGS_S = 60.0
NEWS = [name for name, _ in inspect.getmembers(Progress, inspect.isfunction)]
ARGUMENTS: dict[str, list[Any]] = {
    "begin": [RunInfo(kind="search", out="nowhere", config={})],
    "phase": ["starting"],
    "noted": ["a worker was lost"],
    "trained": [row(0), 1],
    "recorded": [[]],
    "told": [None],
    "finish": [RunSummary()],
    "fail": [ValueError("no")],
    "close": [],
}


def test_a_group_hands_on_all_news() -> None:
    members = Recorder(), Recorder()
    group = ProgressGroup(members)
    assert set(NEWS) == ARGUMENTS.keys()
    for name in NEWS:
        getattr(group, name)(*ARGUMENTS[name])
    assert members[0].calls == members[1].calls == NEWS


def test_a_group_closes_all_though_one_fails() -> None:
    members = Recorder("close"), Recorder()
    with pytest.raises(OSError, match="close failed"):
        ProgressGroup(members).close()
    assert members[1].calls == ["close"]


class Failing(Progress):
    """Takes two rows, and then none for a while."""

    def __init__(self, failures: int) -> None:
        self.epochs: list[int] = []
        self.failures = failures

    def trained(self, row: Any, epochs: int) -> None:
        """Take a row, or fail."""
        if len(self.epochs) == 2 and self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.epochs.append(int(row["epoch"]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for rows in a training's history all the time."""
    monkeypatch.setattr(cluster_train, "POLL_S", 0.001)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("failures", [0, 1])
def test_each_row_of_a_training_elsewhere_is_told_once(failures: int, tmp_path: Path) -> None:
    news = Failing(failures)
    store = HistoryStore(str(tmp_path))
    with cluster_train._watched(str(tmp_path), 5, news):
        for epoch in range(5):
            store.append([{"epoch": epoch}])
        deadline = time.monotonic() + HANGS_S
        while news.failures:  # what fails before the end is tried again
            assert time.monotonic() < deadline, "nobody looked for rows"
            time.sleep(0.001)
    assert news.epochs == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("quick")
def test_what_fails_while_a_training_is_watched_is_raised_at_its_end(tmp_path: Path) -> None:
    def train() -> None:
        store = HistoryStore(str(tmp_path))
        with cluster_train._watched(str(tmp_path), 5, Failing(failures=1000)):
            for epoch in range(5):
                store.append([{"epoch": epoch}])

    with pytest.raises(OSError, match="the disk is full"):
        train()
