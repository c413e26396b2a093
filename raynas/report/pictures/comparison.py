"""Several runs in one picture: how their best came along, and their Pareto fronts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from raynas.core.objectives import Objective
from raynas.report.findings import ReportData, front, opponent, running_best
from raynas.report.pictures.style import NothingToDraw, blank_figure, count_axis, short
from raynas.report.scale import Scale, scale

# Okabe and Ito (2008): told apart by people who see colours differently
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#888888")
NAME = 40


class Compared(NamedTuple):
    """Runs that have one objective, and why the others are left out."""

    runs: dict[str, ReportData]
    left_out: list[str]


def comparable(runs: Mapping[str, ReportData]) -> Compared:
    """Return the runs that search for what the first does and have completed trials."""
    first = next(iter(runs.values())).objective if runs else None
    kept: dict[str, ReportData] = {}
    left_out = []
    for name, data in runs.items():
        if data.objective != first:
            goal = "maximises" if data.objective.goal == "max" else "minimises"
            left_out.append(f"{name} {goal} {data.objective.metric}")
        elif data.completed.empty:
            left_out.append(f"{name} has no completed trial")
        else:
            kept[name] = data
    return Compared(kept, left_out)


def compared_histories(runs: Mapping[str, ReportData]) -> go.Figure:
    """Draw the best so far of several runs over their trials.

    Args:
        runs: by name, of one objective.

    Raises:
        NothingToDraw: there is none.
    """
    _, y = _objective(runs)
    figure = blank_figure("Trials told", y.title)
    for at, (name, data) in enumerate(runs.items()):
        best = running_best(data)
        figure.add_scatter(
            x=[*(best.index + 1), len(data.told)],
            y=[*(best * y.factor), float(best.iloc[-1]) * y.factor],
            name=escape(short(name, NAME)),
            mode="lines",
            line={"shape": "hv", "width": 2, "color": COLOURS[at % len(COLOURS)]},
        )
    figure.update_xaxes(count_axis(1, max(len(data.told) for data in runs.values())))
    figure.update_layout(showlegend=True)
    return figure


def compared_fronts(runs: Mapping[str, ReportData]) -> go.Figure:
    """Draw the Pareto fronts of several runs.

    Args:
        runs: by name, of one objective; those without the other metric are left out.

    Raises:
        NothingToDraw: there is none, or no metric to set against the objective.
    """
    metric, y = _objective(runs)
    other = opponent(next(iter(runs.values())), metric)
    if other is None:
        raise NothingToDraw(f"there is no metric to set against {metric!r}")
    having = {name: data for name, data in runs.items() if other.metric in data.metrics}
    x = _scale(having, other)
    figure = blank_figure(x.title, y.title)
    for at, (name, data) in enumerate(runs.items()):
        if name not in having:
            continue
        line = front(data, other)
        figure.add_scatter(
            x=line[other.metric] * x.factor,
            y=line[metric] * y.factor,
            name=escape(short(name, NAME)),
            mode="lines+markers",
            line={
                "shape": "hv" if other.goal == "min" else "vh",
                "width": 1.5,
                "color": COLOURS[at % len(COLOURS)],
            },
        )
    figure.update_layout(showlegend=True)
    return figure


def _objective(runs: Mapping[str, ReportData]) -> tuple[str, Scale]:
    if not runs:
        raise NothingToDraw("no run has completed trials of one objective")
    objective = next(iter(runs.values())).objective
    return objective.metric, _scale(runs, objective)


def _scale(runs: Mapping[str, ReportData], objective: Objective) -> Scale:
    import pandas as pd

    metric = objective.metric
    return scale(metric, pd.concat([data.completed[metric] for data in runs.values()])).escaped
