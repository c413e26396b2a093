"""The objects that commands print with ``--json``.

``docs/commands.md`` lists them. Numbers are finite: what was not measured, or is infinite, is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

Number = int | float | None


def plain(value: Any) -> Any:
    """Return a value as strict JSON can hold it.

    >>> plain({"loss": float("nan"), "sizes": (3, np.int64(5)), "act": str.upper})["loss"] is None
    True
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):  # a missing time is a datetime too, and unequal to itself
        return value.isoformat() if value == value else None
    return str(value)


class Answer(BaseModel):
    """What a command has to say to a script."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def text(self) -> str:
        """Return the object as strict JSON, in one line."""
        return json.dumps(plain(self.model_dump()), allow_nan=False)


class Names(Answer):
    """``raynas list``: registered names by kind."""

    names: dict[str, list[str]]


class OptionAnswer(Answer):
    """An option of a plug-in; the default is text where JSON cannot hold it, null if required."""

    name: str
    default: Any
    required: bool


class Space(Answer):
    """What a space holds, and the costs of its smallest and largest where they are had at once."""

    size: int
    decisions: list[dict[str, Any]]
    costs: dict[str, tuple[Number, Number]] | None


class Plugin(Answer):
    """A plug-in: its kind, its documentation, its options, and how it is used.

    ``note`` says of what the name that was asked for is an alias, ``aliases`` what each presets;
    ``space`` is of a user's own spaces.
    """

    kind: str
    name: str
    note: str = ""
    aliases: dict[str, str] = {}
    doc: str = ""
    options: list[OptionAnswer] = []
    training: dict[str, Any] = {}
    source: str | None = None
    python: str | None = None
    command: str | None = None
    space: Space | None = None


class Description(Answer):
    """``raynas describe``: what a name stands for, once for each kind that knows it."""

    name: str
    plugins: list[Plugin]


class ArchAnswer(Answer):
    """An architecture of a space, its decisions by label and its metrics."""

    trial: int
    key: str
    arch: dict[str, Any]
    objective: float | None
    metrics: dict[str, Any]


class Trials(Answer):
    """``raynas trials``: the run's rows, all columns, as sorted."""

    path: str
    objectives: dict[str, str]
    trials: list[dict[str, Any]]


class Search(Answer):
    """``raynas search``: the best of a run and where it lies."""

    kind: Literal["search"] = "search"
    path: str
    count: int
    statuses: dict[str, int]
    best: ArchAnswer
    top: list[ArchAnswer]
    front: list[ArchAnswer] | None
    report: str


class Supernet(Answer):
    """``raynas train-supernet``: where the supernet lies and what it can do."""

    kind: Literal["supernet"] = "supernet"
    path: str
    epochs: dict[str, int]
    metrics: dict[str, Number]


class Training(Answer):
    """``raynas retrain``: a network that was trained to the end."""

    kind: Literal["retrain"] = "retrain"
    path: str
    key: str
    arch: dict[str, Any]
    epochs: int
    best_epoch: int
    metrics: dict[str, Number]


class Steps(Answer):
    """``raynas run``: what each step gave, as the command of that step tells it."""

    steps: list[Search | Supernet | Training]


class IntervalAnswer(Answer):
    """An estimate and its 95 % interval."""

    value: Number
    low: Number
    high: Number


class Verified(Answer):
    """``raynas verify``: what retraining says of a search."""

    path: str
    metric: str
    lower_is_better: bool
    gain: IntervalAnswer
    correlation: IntervalAnswer | None
    sums_before: IntervalAnswer | None
    sums_after: IntervalAnswer | None
    architectures: list[dict[str, Any]]


class Exported(Answer):
    """``raynas export``: a file and what is in it; studies and retrained networks have no trial."""

    file: str
    trial: int | None
    key: str | None
    arch: dict[str, Any] | None
    whole: bool


class Report(Answer):
    """``raynas report``: the page's path."""

    file: str


class Profiled(Answer):
    """An architecture of a profile, and its costs."""

    which: str
    key: str
    arch: dict[str, Any]
    metrics: dict[str, Number]


class Bound(Answer):
    """A constraint, the ends of what the space holds, and whether, and how often, it is met."""

    metric: str
    low: Number
    high: Number
    least: Number
    most: Number
    possible: bool | None
    share: float
    share_low: float
    share_high: float


class FixedPart(Answer):
    """Weights of a converted model that stay as they are, and why."""

    reason: str
    dimensions: int
    weights: int
    tensors: list[str]


class Converted(Answer):
    """What of a model became elastic."""

    kinds: dict[str, int]
    coverage: float
    fixed: list[FixedPart]


class Profile(Answer):
    """``raynas profile``: what a space costs."""

    name: str
    size: int
    exact: bool
    feasible: bool | None
    archs: list[Profiled]
    constraints: list[Bound]
    share: float
    share_low: float
    share_high: float
    samples: int
    note: str | None
    decisions: list[dict[str, Any]]
    conversion: Converted | None = None
