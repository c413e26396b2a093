"""The runs below a folder, each in one row; broken ones with the reason."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raynas.core.locations import is_uri, last_name, under
from raynas.report.run_rows import RunRow
from raynas.results.result import Result
from raynas.results.run_state import Signature, is_over, signature
from raynas.storage.retrain_folder import RETRAIN
from raynas.storage.run_folder import CONFIG, Folder, absolute

DEPTH = 3  # folders below which no run is sought
ERROR = 160  # characters of an error


class RunList:
    """Runs below a folder, read again only where their files have changed.

    Args:
        root: a folder or URI: of runs, or of one.

    Raises:
        NotADirectoryError: there is no such folder.
    """

    def __init__(self, root: str) -> None:
        self.root = absolute(root)
        if not is_uri(self.root) and not Path(self.root).is_dir():
            raise NotADirectoryError(f"there is no folder {root} of runs")
        self._lock = threading.Lock()
        self._read: dict[str, tuple[Signature, Result, RunRow]] = {}

    def rows(self) -> list[RunRow]:
        """Return a row for every run, by name."""
        return [self._entry(name, path)[1] for name, path in self.paths().items()]

    def paths(self) -> dict[str, str]:
        """Return the folders of runs by name, which is their path below the root."""
        there = Folder(self.root).entries()
        if CONFIG in there:
            return {last_name(self.root): self.root}
        return dict(sorted(_runs_below(self.root, there, (), DEPTH)))

    def result(self, name: str) -> Result:
        """Return a run by its name in the list.

        Raises:
            LookupError: there is no such run, or its folder is broken.
        """
        paths = self.paths()
        if name not in paths:
            raise LookupError(f"no run is named {name!r}")
        result, row = self._entry(name, paths[name])
        if result is None:
            raise LookupError(f"{name}: {row.error}")
        return result

    def _entry(self, name: str, path: str) -> tuple[Result | None, RunRow]:
        with self._lock:
            found = signature(path)
            before = self._read.get(name)
            if before is not None and before[0] == found:
                return before[1], _now(before[1], before[2])
            try:
                result = Result(path)
                row = _row(name, result)
            except Exception as error:  # a broken folder must not end the page
                text = " ".join(str(error).split())
                why = text[:ERROR] or type(error).__name__
                return None, RunRow(name=name, state="broken", error=why)
            self._read[name] = found, result, row
            return result, row


def _runs_below(
    root: str, there: Mapping[str, bool], above: tuple[str, ...], depth: int
) -> Iterator[tuple[str, str]]:
    """Yield the folders that hold runs, and those that hold nothing of ours.

    Args:
        root: of all.
        there: what a folder below it holds, and whether that is a folder.
        above: names from the root to that folder.
        depth: folders that are looked into, one in the other.
    """
    for name, is_folder in there.items():
        if name.startswith(".") or not is_folder:
            continue
        names = (*above, name)
        path = under(root, *names)
        inside = Folder(path).entries()
        if CONFIG in inside:
            yield "/".join(names), path
        elif RETRAIN in inside:
            continue
        else:
            below = list(_runs_below(root, inside, names, depth - 1)) if depth > 1 else []
            if below:
                yield from below
            elif last_name(root) and depth == DEPTH:
                yield "/".join(names), path  # said to hold no run


def _row(name: str, result: Result) -> RunRow:
    config, frame = result.config, result.judged
    metric, goal = next(iter(config.objectives.items()))
    told = len(frame)
    best = result.top(1)
    value: Any = best[metric].iloc[0] if len(best) and metric in best else None
    times = [when for _, when, _ in signature(result.path)]
    updated = datetime.fromtimestamp(max(times) / 1e9, UTC) if times else None
    return RunRow(
        name=name,
        state="ended" if is_over(result) else "open",
        space=config.space.name,
        algo=config.algo.name,
        metric=metric,
        goal=goal,
        best=None if value is None else float(value),
        told=told,
        planned=config.trials,
        failed=int((frame["status"] == "failed").sum()),
        updated_utc=None if updated is None else updated.isoformat(timespec="seconds"),
    )


def _now(result: Result, row: RunRow) -> RunRow:
    """Return a row whose run may have been closed since, which changes none of its tables."""
    over = is_over(result)
    return row.model_copy(update={"state": "ended" if over else "open"})
