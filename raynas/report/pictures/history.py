"""The objective of every trial in the order of tells, and the best so far."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from raynas.report.findings import FEWEST, ReportData, running_best, scales
from raynas.report.pictures.points import add_points, mark_best, trace_kind
from raynas.report.pictures.style import (
    INK,
    NothingToDraw,
    blank_figure,
    count_axis,
    value_axis,
)


def history(data: ReportData) -> go.Figure:
    """Draw the objective of every trial in the order of tells, and the best so far.

    Raises:
        NothingToDraw: fewer than two trials have the objective.
    """
    metric, measured = data.objective.metric, data.measured
    if len(measured) < FEWEST:
        raise NothingToDraw(
            f"the history needs at least {FEWEST} trials with {metric!r}, got {len(measured)}"
        )
    (y,) = scales(data, metric)
    figure = blank_figure("Trials told", y.title)
    add_points(figure, data, measured, pd.Series(measured.index + 1, measured.index), (metric, y))
    best = running_best(data)
    to_the_end = pd.Series(best.tail(1).to_list(), index=[len(data.told) - 1] * len(best.tail(1)))
    best = pd.concat([best, to_the_end])
    figure.add_trace(
        trace_kind(data)(
            x=best.index + 1,
            y=best * y.factor,
            name="Best so far",
            mode="lines",
            line={"color": INK, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
        )
    )
    mark_best(figure, data, data.best, data.best.index + 1, (metric, y))
    figure.update_xaxes(count_axis(1, len(data.told)))
    figure.update_yaxes(value_axis(measured[metric] * y.factor))
    return figure
