"""A heat map of labels and epochs."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from raynas.report.pictures.style import (
    PALE,
    POINT,
    blank_figure,
    colour_bar,
    count_axis,
    named_axis,
    short,
    width_of,
)

LABEL = 28


def epochs_map(
    z: np.ndarray, rows: list[str], epochs: list[int], hover: list[list[str]], title: str
) -> go.Figure:
    """Return a heat map with a row for every label and a column for every epoch.

    Args:
        z: values, of shape (labels, epochs), in 0 to 1.
        rows: the labels.
        epochs: their numbers.
        hover: texts of the cells.
        title: of the colour bar.
    """
    figure = blank_figure("Epoch", "")
    figure.add_heatmap(
        z=z,
        x=epochs,
        y=[*range(len(rows))],
        name=title,
        hovertext=hover,
        hoverinfo="text",
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        colorscale=[[0, PALE], [1, POINT]],
        colorbar=colour_bar(title) | {"ypad": 45},
    )
    names = [short(label, LABEL) for label in rows]
    figure.update_xaxes(count_axis(min(epochs), max(epochs)))
    figure.update_xaxes(range=[min(epochs) - 0.5, max(epochs) + 0.5])
    figure.update_yaxes(named_axis(names))
    figure.update_yaxes(autorange="reversed")
    left = max(map(width_of, names))
    figure.update_layout(
        height=170 + 20 * len(rows), showlegend=False, meta={"min_width": left + 200}
    )
    return figure
