"""Two metrics against each other: every trial, the Pareto front, the best."""

from __future__ import annotations

import plotly.graph_objects as go

from raynas.report.findings import FEWEST, ReportData, front, goal_of, opponent, scales
from raynas.report.pictures.hover import hovers
from raynas.report.pictures.points import add_points, mark_best, trace_kind
from raynas.report.pictures.style import INK, NothingToDraw, blank_figure, value_axis


def pareto(data: ReportData, x: str | None = None, y: str | None = None) -> go.Figure:
    """Draw two metrics against each other: every trial, the Pareto front, the best.

    Goals are the run's; of another metric less is better where it is a cost, a loss or an error.

    Args:
        data: of the run.
        x: metric; None takes the second objective, or else a measured cost.
        y: metric; None takes the objective.

    Raises:
        UnknownName: no trial has such a metric.
        NothingToDraw: there is one metric only, or fewer than two trials have both.
    """
    up = data.objective if y is None else goal_of(data, y)
    other = opponent(data, up.metric) if x is None else goal_of(data, x)
    if other is None:
        raise NothingToDraw(
            f"there is no metric to set against {up.metric!r}: no second objective, and no cost "
            "was measured"
        )
    frame = data.having(up.metric, other.metric)
    if len(frame) < FEWEST:
        raise NothingToDraw(
            f"a front needs at least {FEWEST} trials with {up.metric!r} and {other.metric!r}, got "
            f"{len(frame)}"
        )
    across, along = scales(data, other.metric, up.metric)
    figure = blank_figure(across.title, along.title)
    place = frame[other.metric] * across.factor
    add_points(figure, data, frame, place, (up.metric, along), decisions=True)
    line = front(data, other, up)
    figure.add_trace(
        trace_kind(data)(
            x=line[other.metric] * across.factor,
            y=line[up.metric] * along.factor,
            name="Pareto front",
            mode="lines+markers",
            line={"color": INK, "width": 1.5, "shape": "hv" if other.goal == "min" else "vh"},
            marker={"size": 6},
            hovertext=hovers(data, line, decisions=True),
            hoverinfo="text",
        )
    )
    best = data.best.dropna(subset=[up.metric, other.metric])
    mark_best(figure, data, best, best[other.metric] * across.factor, (up.metric, along))
    figure.update_xaxes(value_axis(place))
    figure.update_yaxes(value_axis(frame[up.metric] * along.factor))
    return figure
