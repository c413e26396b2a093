"""How SGAS scored the edges of a cell, and when it decided them."""

from __future__ import annotations

from html import escape

import numpy as np
import plotly.graph_objects as go

from raynas.report.findings import ReportData
from raynas.report.pictures.epochs_map import epochs_map
from raynas.report.pictures.style import BEST, NothingToDraw
from raynas.report.pictures.training import epochs_of
from raynas.report.relaxed import SCORE, decisions, scored_edges


def sgas(data: ReportData) -> go.Figure:
    """Draw, per edge and epoch, the score that decides; a star marks the epoch of a decision.

    Raises:
        NothingToDraw: no edges were scored.
    """
    labels = scored_edges(data)
    if not labels:
        raise NothingToDraw(f"{data.config.algo.name} scored no edges: only sgas does")
    epochs = epochs_of(data.history).tolist()
    z = np.array([data.history[f"{SCORE}{label}"].to_numpy(dtype=float) for label in labels])
    hover = [
        [
            f"<b>{escape(label)}</b>, epoch {epoch}<br>score {value:.3f}"
            for epoch, value in zip(epochs, row, strict=True)
        ]
        for label, row in zip(labels, z, strict=True)
    ]
    figure = epochs_map(z, labels, epochs, hover, "Score")
    marks = decisions(data, labels)
    figure.add_scatter(
        x=[epochs[mark.at] for mark in marks],
        y=[mark.row for mark in marks],
        name="Decided",
        mode="markers",
        marker={
            "symbol": "star",
            "size": 11,
            "color": BEST,
            "line": {"color": "white", "width": 1},
        },
        hovertext=[f"decided: {escape(mark.option)}" for mark in marks],
        hoverinfo="text",
        showlegend=False,
    )
    return figure
