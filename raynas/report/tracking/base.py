"""The protocol of trackers, and their registry."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from raynas.core.progress import RunInfo, RunSummary
from raynas.core.registry import Registry

Axis = Literal["epoch", "trial"]
Status = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Numbers of one epoch or trial.

    Attributes:
        axis: what is counted.
        step: its number, from 0.
        time_s: seconds since 1970.
        values: the numbers by name.
    """

    axis: Axis
    step: int
    time_s: float
    values: Mapping[str, float]


class Tracker(ABC):
    """Hands the numbers of a run to the client of a tracking project.

    Its client is imported by its constructor, which so says before a run begins that it is missing.

    Attributes:
        takes_files: whether ``finish`` keeps files.
    """

    takes_files: ClassVar[bool] = False

    @abstractmethod
    def begin(self, run: RunInfo, before: str | None) -> str | None:
        """Take what the run is, and return by what a later start goes on with it; None if nothing.

        Args:
            run: its folder and configuration.
            before: what an earlier start returned.

        Raises:
            ValueError: the run's folder is none where this tracker can write.
        """

    @abstractmethod
    def log(self, points: Sequence[Point]) -> None:
        """Take numbers, in the order in which they came."""

    @abstractmethod
    def finish(self, summary: RunSummary) -> None:
        """Take what the run has come to."""

    @abstractmethod
    def end(self, status: Status) -> None:
        """Write what has not been written yet; nothing follows."""


TRACKERS: Registry[Callable[..., Tracker]] = Registry(
    "tracker", "raynas.report.tracking", group="raynas.trackers", base=Tracker
)


def client(module: str, extra: str) -> Any:
    """Return a project's client.

    Raises:
        ImportError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'track: the client of {extra} is missing ({error}): pip install "raynas[{extra}]"'
        ) from error


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | float | bool]:
    """Return a nested configuration as one level of names with dots; lists become JSON.

    >>> flat({"space": {"name": "darts", "options": {}}, "trials": 3, "data": None, "at": [1, 2]})
    {'space.name': 'darts', 'trials': 3, 'at': '[1, 2]'}
    """
    found: dict[str, str | float | bool] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float | bool):
            found[f"{prefix}{name}"] = value
        elif value is not None:
            found[f"{prefix}{name}"] = json.dumps(value, default=str)
    return found
