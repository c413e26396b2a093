"""What a report says, in numbers: scored trials, Pareto front, running best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from raynas.core.arch import Arch
from raynas.core.config import SearchConfig
from raynas.core.errors import UnknownName, nearest
from raynas.core.evaluator import RESERVED
from raynas.core.objectives import Objective, pareto_mask
from raynas.report.option_text import natural, shown
from raynas.report.order import best_first
from raynas.report.scale import Scale, scale
from raynas.report.trial_tables import LISTS

CHOICE = "choice."
FEWEST = 2  # trials from which on a picture shows more than the table does
COSTS = ("macs", "flops", "latency_ms", "params", "activation_bytes")  # less is better


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a report is made of.

    Attributes:
        trials: the trial table as the run judges it now, columns as in docs/trials.md.
        history: one row per training epoch of the supernet; empty if none was trained.
        config: of the run.
        verified: what retraining the best gave (see ``raynas.results.verification``), or None.
        tested: metrics of architectures on more images than the search could afford, by key.
        retrained: metrics of the network that was trained to the end, empty if none was.
        option_names: by label and position what stands there, for candidates without names.
        final_said: how well the search's score orders what was evaluated again at its end, and what
            failed there; a sentence a line.
    """

    trials: pd.DataFrame
    history: pd.DataFrame
    config: SearchConfig
    verified: dict[str, Any] | None = None
    tested: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    retrained: Mapping[str, float] = field(default_factory=dict)
    option_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    final_said: str = ""

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

    def option_name(self, label: str, option: Any) -> str:
        """Return an option as text: of a candidate without a name, what it is."""
        names = self.option_names.get(label, ())
        if type(option) is int and 0 <= option < len(names):
            return names[option]
        return str(option)

    def picked(self, label: str, value: Any) -> str:
        """Return what an architecture takes at a label, as text."""
        single = label in self.single
        if label in self.option_names and type(value) is int:
            return self.option_name(label, value)
        return shown(value, single=single)

    def decided(self, arch: Arch) -> list[str]:
        """Return what an architecture takes at each label, as text."""
        return [f"{label}: {self.picked(label, value)}" for label, value in arch.items()]

    def having(self, *metrics: str) -> pd.DataFrame:
        """Return the trials that have finite values of these metrics, numbered as in ``told``.

        Raises:
            UnknownName: no trial has such a metric.
        """
        for metric in metrics:
            if metric not in self.metrics:
                hint = nearest(metric, self.metrics)
                raise UnknownName(f"no trial has a metric {metric!r}; {hint}")
        values = self.told[list(metrics)].to_numpy(np.float64, na_value=np.nan)
        kept: pd.DataFrame = self.told.loc[np.isfinite(values).all(axis=1)]
        return kept

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


def opponent(data: ReportData, metric: str) -> Objective | None:
    """Return what to set against a metric: another objective, or else a measured cost."""
    wanted = [Objective(name, goal) for name, goal in data.config.objectives.items()]
    costs = [Objective(name, "min") for name in (*COSTS, *data.metrics) if _is_cost(name)]
    for other in (*wanted, *costs):
        if other.metric in data.metrics and other.metric != metric:
            return other
    return None


def goal_of(data: ReportData, metric: str) -> Objective:
    """Return a metric with the run's goal; of another one, less of a cost or a loss is better.

    Raises:
        UnknownName: no trial has such a metric.
    """
    data.having(metric)
    lower = _is_cost(metric) or metric.endswith(("loss", "error", "mse", "mae"))
    goal = data.config.objectives.get(metric, "min" if lower else "max")
    return Objective(metric, goal)


def _is_cost(metric: str) -> bool:
    return metric in COSTS or metric.endswith(("_ms", "_s", "_bytes", "_joules"))


def front(data: ReportData, other: Objective, objective: Objective | None = None) -> pd.DataFrame:
    """Return the completed trials that no other beats in both metrics, by the other metric.

    Args:
        data: of the run.
        other: a metric and its goal.
        objective: another; None takes the run's first.
    """
    goals = (objective or data.objective, other)
    if data.completed.empty:
        return data.completed
    frame = data.completed.dropna(subset=[goal.metric for goal in goals])
    scores = np.column_stack([goal.sign * frame[goal.metric].to_numpy() for goal in goals])
    return frame[pareto_mask(scores.astype(np.float64))].sort_values(other.metric)


def scales(data: ReportData, *metrics: str) -> list[Scale]:
    """Return how metrics stand on axes, their names escaped for plotly."""
    return [scale(metric, data.told[metric]).escaped for metric in metrics]
