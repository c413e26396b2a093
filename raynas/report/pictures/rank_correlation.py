"""Whether two scores agree on the order of architectures: ranks against ranks."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raynas.report.findings import ReportData
from raynas.report.pictures.hover import hovers
from raynas.report.pictures.style import (
    BEST,
    POINT,
    NothingToDraw,
    blank_figure,
    count_axis,
)
from raynas.report.scale import plain
from raynas.report.trial_tables import number

FEWEST_RANKED = 3


def rank_correlation(data: ReportData, x: str | None = None, y: str | None = None) -> go.Figure:
    """Draw the ranks of architectures by one score against those by another.

    Without metrics it is the search's cheap score against the one that ``Result.verify`` got by
    training on its own. The title has Kendall's tau: 1 where both order all alike, 0 for chance.
    Rank 1 is the smallest value of both.

    Args:
        data: of the run.
        x: metric; None takes the objective, if ``y`` is given.
        y: metric; None takes the objective, if ``x`` is given.

    Raises:
        UnknownName: no trial has such a metric.
        NothingToDraw: fewer than three architectures have both scores.
    """
    if x is None and y is None:
        return _verified(data)
    across, along = x or data.objective.metric, y or data.objective.metric
    frame = data.having(across, along).drop_duplicates("arch_key")
    _check_count(len(frame), f"{across!r} and {along!r}")
    names = plain(across).title, plain(along).title
    return _figure(frame[across], frame[along], names, hovers(data, frame, decisions=False))


def _verified(data: ReportData) -> go.Figure:
    if data.verified is None:
        raise NothingToDraw(
            "no architecture was verified: call Result.verify (raynas verify) first, or name two "
            "metrics"
        )
    rows = pd.DataFrame(data.verified["rows"]).dropna(subset=["cheap", "mean"])
    _check_count(len(rows), "a cheap and a stand-alone score")
    metric = data.verified.get("metric", "accuracy")  # older releases knew no other
    hover = [
        f"<b>{escape(row['arch_key'])}</b> ({escape(row['group'])})<br>"
        f"cheap {number(row['cheap'], metric)}, alone {number(row['mean'], metric)}"
        for row in rows.to_dict("records")
    ]
    figure = _figure(rows["cheap"], rows["mean"], ("the search's score", "the score alone"), hover)
    figure.data[0].marker.color = [BEST if g == "best" else POINT for g in rows["group"]]
    return figure


def _check_count(count: int, what: str) -> None:
    if count < FEWEST_RANKED:
        raise NothingToDraw(
            f"an order needs at least {FEWEST_RANKED} architectures with {what}, got {count}"
        )


def _figure(
    x: pd.Series[float], y: pd.Series[float], names: tuple[str, str], hover: list[str]
) -> go.Figure:
    from scipy.stats import kendalltau

    tau = float(np.nan_to_num(kendalltau(x, y).statistic))  # all tied: no order to agree on
    across, along = (f"Rank by {escape(name)}" for name in names)
    figure = blank_figure(across, along)
    figure.add_scatter(
        x=x.rank(),
        y=y.rank(),
        name="Architecture",
        mode="markers",
        marker={"size": 9, "color": POINT, "opacity": 0.7},
        hovertext=hover,
        hoverinfo="text",
    )
    figure.update_xaxes(count_axis(1, len(x)))
    figure.update_yaxes(count_axis(1, len(x)))
    figure.update_layout(
        showlegend=False,
        margin_t=34,
        title={"text": f"Kendall's tau {tau:.2f}", "font": {"size": 14}, "x": 0, "xref": "paper"},
    )
    return figure
