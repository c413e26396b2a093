"""One line on the terminal that says how a run comes along."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from raynas.core.progress import Progress as Silent
from raynas.core.study import Study
from raynas.report.trial_tables import number

PLAIN_S = 5.0  # between lines where there is no terminal to redraw one on


class Line(Silent):
    """Redraws a line on a terminal; elsewhere prints one now and then.

    Args:
        console: where to; None takes standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[news]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._name, self._started, self._printed = "", time.monotonic(), 0.0
        self._last = ""  # line that was printed

    def phase(self, text: str) -> None:
        """Show what is waited for, until there is something to count."""
        self._begin(text, None)
        if self._bar.disable:
            elapsed_s = time.monotonic() - self._started
            self._console.print(f"{text}  {elapsed_s:.0f} s", highlight=False)

    def trained(self, row: Mapping[str, float], epochs: int) -> None:
        """Show an epoch's loss and how well the network, or random sub-networks, do."""
        news = f"loss {row['loss']:.3f}"
        if self.metric in row:
            accuracy = self.metric.endswith("accuracy")
            score = f"{100 * row[self.metric]:.1f} %" if accuracy else number(row[self.metric])
            news += f"  {self.metric} {score}"
        self._show(self.trains, int(row["epoch"]) + 1, epochs, news)

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
        self._show("search", study.told, total, best + failed)

    def close(self) -> None:
        """Leave the last line standing."""
        self._bar.stop()

    def _begin(self, name: str, total: int | None) -> None:
        self._name, self._printed, self._last = name, 0.0, ""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._bar.start()
        self._task = self._bar.add_task(name, total=total, count="", news="")

    def _show(self, name: str, done: int, total: int, news: str) -> None:
        if name != self._name or self._task is None:
            self._begin(name, total)
        assert self._task is not None
        count = f"{done}/{total}"
        self._bar.update(self._task, completed=done, total=total, count=count, news=news)
        now = time.monotonic()
        line = f"{name} {count}"
        due = now - self._printed >= PLAIN_S or done == total
        if self._bar.disable and due and line != self._last:
            self._printed, self._last = now, line
            elapsed_s = now - self._started
            self._console.print(f"{line}  {news}  {elapsed_s:.0f} s", highlight=False)


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
