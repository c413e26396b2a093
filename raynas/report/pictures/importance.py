"""How much each choice matters: the share of the objective's variance that its options explain."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from raynas.report.findings import ReportData, goal_of, scales
from raynas.report.importance import importance_table
from raynas.report.pictures.style import (
    POINT,
    NothingToDraw,
    blank_figure,
    named_axis,
    short,
)

LABEL = 28


def importance(data: ReportData, metric: str | None = None, count: int = 30) -> go.Figure:
    """Draw, per choice, which share of a metric's variance its options explain, as bars.

    The measure is that of ``Result.importance``: epsilon squared of a one-way analysis of
    variance, 0 for a choice that does not matter, whatever the number of its options, and 100 %
    for one that decides all. Options that the search tried together share their effect.

    Args:
        data: of the run.
        metric: None takes the objective.
        count: how many choices, the most important ones; those that explain nothing are left out.

    Raises:
        UnknownName: no trial has such a metric.
        NothingToDraw: no choice was tried with several options, or nothing differs.
    """
    goal = data.objective if metric is None else goal_of(data, metric)
    if goal.metric not in data.told:
        raise NothingToDraw(f"importances need {goal.metric!r}, which no trial has")
    table = importance_table(data.told, goal)
    if not (table["importance"] > 0).any():
        raise NothingToDraw(
            f"no choice explains {goal.metric!r}: it needs more completed trials, and some that "
            "differ in it"
        )
    table = table[table["importance"] > 0].head(count)
    (scale,) = scales(data, goal.metric)
    unit = "percentage points" if scale.unit == "%" else scale.unit
    hover = [
        f"<b>{escape(row['choice'])}</b><br>explains {100 * row['importance']:.1f} % of the "
        f"variance<br>best on average: {escape(_option(data, row['choice'], row['best']))}, "
        f"{row['effect'] * scale.factor:.3g} {unit} above the worst<br>{row['trials']} trials"
        for row in table.to_dict("records")
    ]
    figure = blank_figure("Share of the variance (%)", "")
    figure.add_bar(
        x=table["importance"] * 100,
        y=[*range(len(table))],
        orientation="h",
        name="Importance",
        marker={"color": POINT},
        hovertext=hover,
        hoverinfo="text",
    )
    figure.update_yaxes(named_axis([short(name, LABEL) for name in table["choice"]]))
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(height=90 + 22 * len(table), showlegend=False, bargap=0.3)
    return figure


def _option(data: ReportData, label: str, option: object) -> str:
    text = str(option)
    return data.option_name(label, int(text)) if text.isdigit() else text
