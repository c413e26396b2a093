"""What a report says, in numbers: scored trials, Pareto front, running best, effects of choices."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from raynas.core.arch import Arch, Atom, Value
from raynas.core.config import SearchConfig
from raynas.core.evaluator import RESERVED
from raynas.core.objectives import Objective, pareto_mask
from raynas.core.plain_values import plain_value
from raynas.report.order import best_first
from raynas.report.trial_tables import LISTS

CHOICE = "choice."
COSTS = ("macs", "flops", "latency_ms", "params", "activation_bytes")  # less is better


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a report is made of.

    Attributes:
        trials: the trial table as the run judges it now, columns as in docs/trials.md.
        history: one row per training epoch of the supernet; empty if none was trained.
        config: of the run.
        verified: what retraining the best gave (see ``raynas.results.verification``), or None.
    """

    trials: pd.DataFrame
    history: pd.DataFrame
    config: SearchConfig
    verified: dict[str, Any] | None = None

    @property
    def objective(self) -> Objective:
        """The metric that was searched for: the first one, if there are several."""
        metric, goal = next(iter(self.config.objectives.items()))
        return Objective(metric, goal)

    @cached_property
    def told(self) -> pd.DataFrame:
        """All trials in the order of tells, numbered from 0."""
        return self.trials.sort_values("told_event", kind="stable", ignore_index=True)

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The trials that have the objective, under their numbers in ``told``."""
        if self.objective.metric not in self.told:
            return self.told.iloc[:0]
        values = self.told[self.objective.metric].to_numpy(np.float64, na_value=np.nan)
        kept: pd.DataFrame = self.told.loc[np.isfinite(values)]
        return kept

    @cached_property
    def completed(self) -> pd.DataFrame:
        """Of these, every architecture once: within the bounds, and not stopped early."""
        counted = (self.measured["status"] == "completed") & self.measured["objective"].notna()
        return self.measured.loc[counted]

    @cached_property
    def best(self) -> pd.DataFrame:
        """The best trial, as a table of one row, or of none; ties go to the lower loss."""
        return top(self, 1)

    @cached_property
    def archs(self) -> list[Arch]:
        """The architecture of each row of ``told``."""
        return [Arch.from_json(text) for text in self.told["arch"]]

    @cached_property
    def single(self) -> frozenset[str]:
        """The decisions known to pick one option, which may be a tuple; others may pick several."""
        columns = [str(name) for name in self.told if str(name).startswith(CHOICE)]
        sets = {name for name in columns if self.told[name].map(type).isin(LISTS).any()}
        return frozenset(name.removeprefix(CHOICE) for name in columns if name not in sets)

    @property
    def labels(self) -> list[str]:
        """The decisions in the order of the space, those that only architectures name behind."""
        known = [
            name.removeprefix(CHOICE) for name in map(str, self.told) if name.startswith(CHOICE)
        ]
        others = {label for arch in self.archs for label in arch} - set(known)
        return known + sorted(others, key=natural)

    @property
    def metrics(self) -> list[str]:
        """Names of the measured numbers, the objectives first."""
        numbers = self.told.select_dtypes("number").dropna(axis="columns", how="all")
        own = [str(n) for n in numbers if n not in RESERVED and not str(n).startswith(CHOICE)]
        wanted = [metric for metric in self.config.objectives if metric in own]
        return [*wanted, *(name for name in own if name not in wanted)]


def top(data: ReportData, count: int) -> pd.DataFrame:
    """Return the best completed trials: by objective, then lower loss, then earlier."""
    return best_first(data.completed).head(count)


def running_best(data: ReportData) -> pd.Series[float]:
    """Return the metric of the best so far, under the numbers of the completed in ``told``."""
    if data.completed.empty:
        return pd.Series(dtype=float)
    score = data.completed["objective"]
    leads = score > score.cummax().shift(fill_value=-np.inf)
    values: pd.Series[float] = data.completed[data.objective.metric].where(leads).ffill()
    return values


def opponent(data: ReportData) -> Objective | None:
    """Return what to set against the objective: the second one, or else a measured cost."""
    wanted = [Objective(metric, goal) for metric, goal in data.config.objectives.items()]
    costs = [Objective(name, "min") for name in (*COSTS, *data.metrics) if _is_cost(name)]
    for other in (*wanted[1:], *costs):
        if other.metric in data.metrics and other.metric != data.objective.metric:
            return other
    return None


def _is_cost(metric: str) -> bool:
    return metric in COSTS or metric.endswith(("_ms", "_s", "_bytes", "_joules"))


def front(data: ReportData, other: Objective) -> pd.DataFrame:
    """Return the completed trials that no other beats in both metrics, by the other metric."""
    goals = (data.objective, other)
    if data.completed.empty:
        return data.completed
    frame = data.completed.dropna(subset=[goal.metric for goal in goals])
    scores = np.column_stack([goal.sign * frame[goal.metric].to_numpy() for goal in goals])
    return frame[pareto_mask(scores.astype(np.float64))].sort_values(other.metric)


class Effect(NamedTuple):
    """How the trials that took one option did.

    Attributes:
        trials: how many they are.
        mean: of their objective.
        effect: this mean, less the mean of all completed trials.
    """

    decision: str
    option: str
    trials: int
    mean: float
    effect: float


def effects(data: ReportData) -> list[Effect]:
    """Return how the trials with each option did, decision by decision, options in natural order.

    These are plain averages over the trials that a search happened to try. They say nothing about
    causes: options that the search tried together share their averages.
    """
    if data.completed.empty:
        return []
    objective = data.completed[data.objective.metric]
    taken = defaultdict[str, defaultdict[str, list[float]]](lambda: defaultdict(list))
    for at, value in zip(objective.index.tolist(), objective.tolist(), strict=True):
        for label, picked in data.archs[at].items():
            for atom in atoms(picked, single=label in data.single):
                taken[label][json.dumps(atom)].append(value)  # True, 1 and "1" are three options
    overall = float(objective.mean())
    found = []
    for label in data.labels:
        for text in sorted(taken[label], key=lambda text: natural(json.loads(text))):
            option, values = plain_value(json.loads(text)), taken[label][text]
            mean = float(np.mean(values))
            found.append(Effect(label, str(option), len(values), mean, mean - overall))
    return found


def atoms(value: Value, *, single: bool = False) -> tuple[Atom, ...]:
    """Return the options that a value stands for: one, or those of a subset.

    Args:
        value: at a decision.
        single: whether the decision picks one option, so that a tuple is one.
    """
    return value if isinstance(value, tuple) and not single else (value,)


def natural(option: Any) -> tuple[int, float, list[tuple[int, str]]]:
    """Return a key that sorts numbers by size, before text, and ``block10`` behind ``block2``.

    None and lists come last.
    """
    if isinstance(option, int | float):
        return 0, float(option), []
    parts = re.findall(r"(\d{1,18})|(\D+)", option if isinstance(option, str) else str(option))
    order = [(int(digits or -1), text) for digits, text in parts]
    return 1 if isinstance(option, str) else 2, 0.0, order


@dataclass(frozen=True)
class Scale:
    """How a metric stands on an axis.

    Attributes:
        name: as people write it.
        unit: what the axis counts in, or nothing.
        factor: from the number as measured to that unit.
    """

    name: str
    unit: str = ""
    factor: float = 1.0

    @property
    def title(self) -> str:
        """Name and unit, as a heading."""
        text = f"{self.name} ({self.unit})" if self.unit else self.name
        return text[:1].upper() + text[1:]


WRITTEN = {
    **{"macs": "MACs", "flops": "FLOPs", "mse": "MSE", "mae": "MAE", "r2": "R²", "f1": "F1"},
    "mean_iou": "mean IoU",
}


def plain(metric: str) -> Scale:
    """Return the name of a metric, and the unit that is part of it, if one is.

    >>> plain("latency_ms").title, plain("macs").title, plain("activation_bytes").title
    ('Latency (ms)', 'MACs', 'Activation bytes')
    """
    words = metric.split("_")
    if len(words) > 1 and words[-1] in ("ms", "s", "joules"):
        return Scale(" ".join(words[:-1]), words[-1])
    return Scale(WRITTEN.get(metric, " ".join(words)))


def scale(metric: str, values: pd.Series[float]) -> Scale:
    """Return the scale that suits a metric's values.

    >>> scale("macs", pd.Series([2.5e6, 8e5])).title, scale("accuracy", pd.Series([0.9])).title
    ('MACs (millions)', 'Accuracy (%)')
    """
    largest = float(values.abs().max()) if len(values) else 0.0
    named = plain(metric)
    if metric == "accuracy" or metric.endswith("_accuracy"):
        return Scale(named.name, "%", 100.0) if largest <= 1 else named
    if metric in ("macs", "flops", "params"):
        sizes = ((1e10, 1e9, "billions"), (1e5, 1e6, "millions"), (1e3, 1e3, "thousands"))
        fitting = ((size, unit) for least, size, unit in sizes if largest >= least)
        size, unit = next(fitting, (1.0, ""))
        return Scale(named.name, unit, 1 / size)
    if metric.endswith("_bytes"):
        return Scale(named.name.removesuffix(" bytes"), "MB", 1e-6)
    return named
