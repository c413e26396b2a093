"""What long benchmarks share: results that outlive the process, and how intervals are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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


def shown(interval: Interval, sign: str = "") -> str:
    """Return an estimate with its interval, where there is one."""
    value = f"{interval.value:{sign}.2f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low:{sign}.2f} to {interval.high:{sign}.2f})"
