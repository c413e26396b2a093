"""The supernet's loss, and the score of random sub-networks, over the epochs."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raynas.core.metrics import probed
from raynas.report.findings import ReportData
from raynas.report.pictures.style import (
    POINT,
    NothingToDraw,
    axis,
    blank_figure,
    count_axis,
    value_axis,
)
from raynas.report.scale import plain


def training(data: ReportData) -> go.Figure:
    """Draw the supernet's loss and the score of random subnets over the epochs.

    Raises:
        NothingToDraw: no supernet was trained.
    """
    history = data.history
    metric = probed(data.config.task_metric)
    accuracy = metric.endswith("accuracy")
    names = {"loss": "Training loss", metric: "Accuracy (%)" if accuracy else plain(metric).title}
    shown = [n for n in names if n in history and history[n].notna().any()]
    if not shown:
        raise NothingToDraw("no supernet was trained in this run")
    epochs = epochs_of(history)
    figure = make_subplots(len(shown), 1, shared_xaxes=True, vertical_spacing=0.08)
    figure.update_layout(blank_figure("Epoch", "").layout)
    figure.update_xaxes(axis("") | count_axis(epochs.min(), epochs.max()))
    for row, name in enumerate(shown, 1):
        share = accuracy and name == metric
        values = history[name] * (100.0 if share else 1.0)
        figure.add_scatter(
            x=epochs,
            y=values,
            name=names[name],
            mode="lines+markers",
            line={"color": POINT, "width": 2},
            marker={"size": 5},
            hovertemplate=f"epoch %{{x}}: %{{y:.4g}}{' %' if share else ''}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(axis(names[name]) | value_axis(values), row=row, col=1)
    figure.update_xaxes(title_text="Epoch", row=len(shown), col=1)
    figure.update_layout(showlegend=False, height=230 * len(shown))
    return figure


def epochs_of(history: pd.DataFrame) -> pd.Series[int]:
    """Return the number of each row's epoch, from 1."""
    if "epoch" in history:
        return history["epoch"].astype(int) + 1
    return pd.Series(range(1, len(history) + 1), history.index)
