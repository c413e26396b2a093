"""Runs in a list: what ``raynas ui`` shows of each, and prints with ``--json``."""

from __future__ import annotations

from typing import Literal

from raynas.report.json_objects import Answer


class RunRow(Answer):
    """A run in one row.

    Attributes:
        name: its folder below the root.
        state: ``ended``: all trials are told or the run has closed its folder; ``open``: it goes
            on, or was killed; ``broken``: the folder cannot be read.
        best: value of the objective's metric, as measured.
        told: trials that are told.
        planned: trials that were asked for.
        updated_utc: when a table was last written.
        error: why a broken folder cannot be read.
    """

    name: str
    state: Literal["ended", "open", "broken"]
    space: str | None = None
    algo: str | None = None
    metric: str | None = None
    goal: str | None = None
    best: float | None = None
    told: int = 0
    planned: int = 0
    failed: int = 0
    updated_utc: str | None = None
    error: str | None = None


class Runs(Answer):
    """``raynas ui --json``: the runs below a folder."""

    root: str
    runs: list[RunRow]


class Picture(Answer):
    """``raynas plot --json``: which picture was written, and where."""

    picture: str
    file: str
