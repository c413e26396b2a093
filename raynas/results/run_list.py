"""The runs below a folder, each in one row; broken ones with the reason."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raynas.report.run_rows import RunRow
from raynas.results.result import Result
from raynas.results.run_state import Signature, is_over, signature
from raynas.storage.retrain_folder import RETRAIN
from raynas.storage.run_folder import CONFIG

DEPTH = 3  # folders below which no run is sought
ERROR = 160  # characters of an error


class RunList:
    """Runs below a folder, read again only where their files have changed.

    Args:
        root: a local folder: of runs, or of one.

    Raises:
        NotADirectoryError: there is no such folder.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            raise NotADirectoryError(f"there is no folder {root} of runs")
        self._lock = threading.Lock()
        self._read: dict[str, tuple[Signature, Result, RunRow]] = {}

    def rows(self) -> list[RunRow]:
        """Return a row for every run, by name."""
        return [self._entry(name, path)[1] for name, path in self.paths().items()]

    def paths(self) -> dict[str, Path]:
        """Return the folders of runs by name, which is their path below the root."""
        if (self.root / CONFIG).exists():
            return {self.root.name: self.root}
        found = sorted(_runs_below(self.root, DEPTH))
        return {path.relative_to(self.root).as_posix(): path for path in found}

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

    def _entry(self, name: str, path: Path) -> tuple[Result | None, RunRow]:
        with self._lock:
            found = signature(str(path))
            before = self._read.get(name)
            if before is not None and before[0] == found:
                return before[1], _now(before[1], before[2])
            try:
                result = Result(str(path))
                row = _row(name, result)
            except Exception as error:  # a broken folder must not end the page
                text = " ".join(str(error).split())
                why = text[:ERROR] or type(error).__name__
                return None, RunRow(name=name, state="broken", error=why)
            self._read[name] = found, result, row
            return result, row


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders that hold runs, and those that hold nothing of ours."""
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_dir():
            continue
        if (path / CONFIG).exists():
            yield path
        elif (path / RETRAIN).exists():
            continue
        else:
            below = list(_runs_below(path, depth - 1)) if depth > 1 else []
            nested = [run for run in below if (run / CONFIG).exists()]
            if nested:
                yield from nested
            elif folder.name and depth == DEPTH:
                yield path  # said to hold no run


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
        state="ended" if is_over(result.path, config, told) else "open",
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
    over = is_over(result.path, result.config, row.told)
    return row.model_copy(update={"state": "ended" if over else "open"})
