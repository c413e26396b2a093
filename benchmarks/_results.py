"""What long benchmarks share: results that outlive the process, and how intervals are written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from raynas.results.analysis import Interval


class Kept:
    """Results in one JSON file: each is computed once, whatever the process.

    Args:
        file: that holds them; its folder is made.
        setting: what they depend on.
    """

    def __init__(self, file: Path, setting: Mapping[str, Any]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self.results: dict[str, Any] = {"setting": dict(setting)}
        if file.exists():
            self.results = json.loads(file.read_text())
        if self.results["setting"] != dict(setting):
            raise SystemExit(f"{file} holds results of another setting: {self.results['setting']}")

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what was kept, or make it and keep it."""
        if key not in self.results:
            print(f"{key} ...", flush=True)
            self.results[key] = make()
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(self.results))
            new.replace(self._file)
        return self.results[key]


def runs_of(file: Path) -> pd.DataFrame:
    """Return the runs that a CSV file keeps.

    Raises:
        SystemExit: there is none.
    """
    if not file.exists():
        raise SystemExit(f"{file} holds no runs yet: leave out --only-show")
    return pd.read_csv(file)


def complete(
    file: Path,
    keys: Sequence[str],
    cases: Iterable[tuple[Any, ...]],
    make: Callable[..., Mapping[str, float]],
) -> None:
    """Add a line of a CSV file for every case that has none yet, as soon as it is made.

    Args:
        file: that holds them; its folder is made.
        keys: names of what makes a case.
        cases: their values, one after the other.
        make: takes the values of a case and returns its figures, of the same names for all.
    """
    done: set[tuple[Any, ...]] = set()
    if file.exists():
        done.update(pd.read_csv(file)[list(keys)].itertuples(index=False, name=None))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="") as stream:
        for case in cases:
            if case not in done:
                row = dict(zip(keys, case, strict=True)) | dict(make(*case))
                writer = csv.DictWriter(stream, list(row))
                if not stream.tell():
                    writer.writeheader()
                writer.writerow(row)
                stream.flush()


def shown(interval: Interval, sign: str = "", digits: int = 2) -> str:
    """Return an estimate with its interval, where there is one."""
    value = f"{interval.value:{sign}.{digits}f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f})"
