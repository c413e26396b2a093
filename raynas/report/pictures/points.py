"""Trials as points: the completed ones filled, the others as rings, the best as a star."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raynas.report.findings import ReportData
from raynas.report.pictures.hover import hovers
from raynas.report.pictures.style import BEST, POINT, QUIET
from raynas.report.scale import Scale

WEBGL_OVER = 5000  # trials; SVG is too slow for more


def trace_kind(data: ReportData) -> Any:
    """Return the class of all traces of a picture: WebGL would cover what SVG draws."""
    return go.Scattergl if len(data.told) > WEBGL_OVER else go.Scatter


def by_status(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each status, the completed ones last, so that they lie on top."""
    groups = [(str(status), rows) for status, rows in frame.groupby("status")]
    return sorted(groups, key=lambda group: group[0] == "completed")


def add_points(
    figure: go.Figure,
    data: ReportData,
    frame: pd.DataFrame,
    x: pd.Series[float],
    y: tuple[str, Scale],
    *,
    decisions: bool = False,
) -> None:
    """Add a trace for every status.

    Args:
        figure: to add to.
        data: of the run.
        frame: rows of its trials.
        x: of each row, as drawn.
        y: a metric and how it is drawn.
        decisions: whether hovering tells the architecture.
    """
    metric, scale = y
    for status, rows in by_status(frame):
        done = status == "completed"
        figure.add_trace(
            trace_kind(data)(
                x=x[rows.index],
                y=rows[metric] * scale.factor,
                name="Trial" if done else status.capitalize(),
                mode="markers",
                marker={
                    "size": 7,
                    "color": POINT if done else QUIET,
                    "opacity": 0.5,
                    "symbol": "circle" if done else "circle-open",
                },
                hovertext=hovers(data, rows, decisions=decisions),
                hoverinfo="text",
            )
        )


def mark_best(
    figure: go.Figure, data: ReportData, best: pd.DataFrame, x: Any, y: tuple[str, Scale]
) -> None:
    """Add a star at the best trial, if there is one.

    Args:
        figure: to add to.
        data: of the run.
        best: a table of one row, or none.
        x: of it, as drawn.
        y: a metric and how it is drawn.
    """
    if best.empty:
        return
    metric, scale = y
    figure.add_trace(
        trace_kind(data)(
            x=x,
            y=best[metric] * scale.factor,
            name="Best trial",
            mode="markers",
            marker={
                "size": 15,
                "color": BEST,
                "symbol": "star",
                "line": {"color": "white", "width": 1},
            },
            hovertext=hovers(data, best, decisions=True),
            hoverinfo="text",
        )
    )
