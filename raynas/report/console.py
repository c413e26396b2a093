"""One line on the terminal that says how a run comes along."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from raynas.core.progress import NOTES
from raynas.core.progress import Progress as Silent
from raynas.core.study import Study
from raynas.report.pace import Pace, duration, rate
from raynas.report.trial_tables import number

PLAIN_S = 5.0  # between lines where there is no terminal to redraw one on


class Line(Silent):
    """Redraws a line on a terminal or in a notebook; elsewhere prints one now and then.

    It says how many are done of how many, the best so far, how fast it goes, and the time left.

    Args:
        console: where to; None takes standard error.
        clock: seconds from any instant on.
    """

    def __init__(
        self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[news]}", markup=False),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not redraws(self._console),
            get_time=clock,
        )
        self._task: TaskID | None = None
        self._name, self._started, self._printed = "", clock(), -PLAIN_S
        self._last = ""  # line that was printed
        self._pace = Pace(clock)

    def phase(self, text: str) -> None:
        """Show what is waited for, until there is something to count."""
        self._begin(text, None)
        if self._bar.disable:
            elapsed_s = self._clock() - self._started
            self._say(f"{text}  {elapsed_s:.0f} s")

    def noted(self, text: str) -> None:
        """Print it."""
        self._say(text)

    def trained(self, row: Mapping[str, Any], epochs: int) -> None:
        """Show an epoch's loss and how well the network, or random sub-networks, do."""
        news = f"loss {row['loss']:.3f}"
        if self.metric in row:
            accuracy = self.metric.endswith("accuracy")
            score = f"{100 * row[self.metric]:.1f} %" if accuracy else number(row[self.metric])
            news += f"  {self.metric} {score}"
        if row.get(NOTES):
            self._say(str(row[NOTES]))
        done = int(row["epoch"]) + 1
        self._show(self.trains, done, epochs, news, unit="epoch", took_s=row.get("duration_s"))

    def told(self, study: Study) -> None:
        """Show how many trials are told, and the best."""
        first = study.goals.objectives[0]
        metric = first.metric
        best = "none completed"
        if study.best is not None and study.best.objective is not None:
            value = first.sign * first.score(study.best.metrics)
            best = f"best {metric} {number(value, metric)}"
        failed = f"  {study.failed} failed" if study.failed else ""
        # a space may hold fewer than were asked for, and a one-shot algorithm finds one
        exhausted = study.finished and study.failure is None
        total = study.told if exhausted else study.trials
        self._show(study.purpose, study.told, total, best + failed, unit="trial")

    def close(self) -> None:
        """Leave the last line standing."""
        self._bar.stop()

    def _begin(self, name: str, total: int | None) -> None:
        self._name, self._printed, self._last = name, -PLAIN_S, ""
        self._pace = Pace(self._clock)
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._bar.start()
        self._task = self._bar.add_task(name, total=total, count="", news="", pace="", left="")

    def _show(
        self,
        name: str,
        done: int,
        total: int,
        news: str,
        *,
        unit: str,
        took_s: float | None = None,
    ) -> None:
        if name != self._name or self._task is None:
            self._begin(name, total)
        assert self._task is not None
        self._pace.update(done, took_s)
        count, per_s = f"{done}/{total}", self._pace.per_s
        pace = "" if per_s is None else rate(per_s, unit, each=unit == "epoch")
        left_s = self._pace.left_s(total)
        left = "" if left_s is None or done >= total else f"{duration(left_s)} left"
        fields: dict[str, Any] = {"count": count, "news": news, "pace": pace, "left": left}
        self._bar.update(self._task, completed=done, total=total, **fields)
        line = f"{name} {count}"
        due = self._clock() - self._printed >= PLAIN_S or done == total
        if self._bar.disable and due and line != self._last:
            self._printed, self._last = self._clock(), line
            elapsed_s = self._clock() - self._started
            self._say("  ".join(filter(None, [line, news, pace, f"{elapsed_s:.0f} s", left])))

    def _say(self, text: str) -> None:
        """Print text, above the line where one is redrawn."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def redraws(console: Console) -> bool:
    """Return whether a line can be redrawn: on a terminal, or in a notebook with ipywidgets."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal


def progress_of(given: Silent | bool | None) -> Silent:
    """Return what shows a run's progress.

    Args:
        given: True for a line, False for nothing, None for a line where somebody looks on: on a
            terminal or in a notebook.
    """
    if isinstance(given, Silent):
        return given
    console = Console(stderr=True)
    watched = console.is_terminal or console.is_jupyter
    return Line(console) if given or (given is None and watched) else Silent()
