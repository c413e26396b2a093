"""Every trial as a line through its options and metrics: parallel coordinates."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raynas.report.findings import FEWEST, ReportData, opponent
from raynas.report.importance import importance_table
from raynas.report.option_text import natural
from raynas.report.pictures.style import (
    EVEN,
    FONT,
    INK,
    POINT,
    NothingToDraw,
    blank_figure,
    short,
)
from raynas.report.scale import scale

LABEL, OPTION = 16, 12
AXIS_WIDTH = 110  # pixels


def parallel(data: ReportData, count: int = 6) -> go.Figure:
    """Draw every completed trial as a line through its options, a cost and the objective.

    The blue lines are the better ones. Drag along an axis to see only the trials of a range.

    Args:
        data: of the run.
        count: of the choices, the most important ones.

    Raises:
        NothingToDraw: fewer than two trials were completed.
    """
    frame = data.completed
    if len(frame) < FEWEST:
        raise NothingToDraw(
            f"parallel coordinates need at least {FEWEST} completed trials, got {len(frame)}"
        )
    table = importance_table(data.told, data.objective)
    labels = table["choice"].head(count).tolist() or data.labels[:count]
    dimensions = [_options(data, frame, label) for label in labels]
    other = opponent(data, data.objective.metric)
    metrics = [*([other.metric] if other else []), data.objective.metric]
    dimensions += [_metric(frame, metric) for metric in metrics]
    score = frame["objective"].rank()
    figure = blank_figure("", "")
    figure.add_parcoords(
        name="Trial",
        line={"color": score, "colorscale": [[0, EVEN], [0.7, EVEN], [1, POINT]]},
        dimensions=dimensions,
        labelfont={"size": 12, "color": INK, "family": FONT},
        tickfont={"size": 11, "color": INK, "family": FONT},
        rangefont={"size": 10, "color": "rgba(0,0,0,0)"},  # ticks say it already
        labelangle=0,
    )
    width = AXIS_WIDTH * len(dimensions) + 80
    figure.update_layout(margin={"l": 70, "r": 60, "t": 48, "b": 24}, meta={"min_width": width})
    return figure


def _options(data: ReportData, frame: pd.DataFrame, label: str) -> dict[str, Any]:
    """Return an axis of a decision's options; trials that do not reach it take the place -."""
    taken = [data.archs[at].get(label) for at in frame.index]
    reached = [label in data.archs[at] for at in frame.index]
    values = {v for v, there in zip(taken, reached, strict=True) if there}
    options = sorted(values, key=lambda value: natural(value))
    texts = [short(data.picked(label, value), OPTION) for value in options]
    if not all(reached):
        texts.append("-")
    places = [options.index(v) if r else len(options) for v, r in zip(taken, reached, strict=True)]
    return {
        "label": escape(short(label, LABEL)),
        "values": places,
        "tickvals": [*range(len(texts))],
        "ticktext": [escape(text) for text in texts],
        "range": [-0.5, len(texts) - 0.5],
    }


def _metric(frame: pd.DataFrame, metric: str) -> dict[str, Any]:
    axis = scale(metric, frame[metric]).escaped
    values = frame[metric].to_numpy(np.float64, na_value=np.nan) * axis.factor
    kept = values[np.isfinite(values)]
    low, high = (kept.min(), kept.max()) if len(kept) else (0.0, 0.0)
    around = 0.0 if low < high else abs(low) / 10 or 1.0
    return {
        "label": short(axis.title, 20),
        "values": np.where(np.isfinite(values), values, low),
        "range": [low - around, high + around],
    }
