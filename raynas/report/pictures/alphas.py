"""What every choice of a search by gradients came to prefer."""

from __future__ import annotations

from html import escape

import numpy as np
import plotly.graph_objects as go

from raynas.report.findings import ReportData
from raynas.report.pictures.epochs_map import epochs_map
from raynas.report.pictures.style import INK, NothingToDraw, short, width_of
from raynas.report.pictures.training import epochs_of
from raynas.report.relaxed import probabilities

OPTION = 18


def alphas(data: ReportData) -> go.Figure:
    """Draw, per choice and epoch, the probability of the option that it prefers.

    A row's last cell names the option; decided choices are certain from then on.

    Raises:
        NothingToDraw: the algorithm learned no probabilities.
    """
    table = probabilities(data)
    if not table:
        raise NothingToDraw(
            f"{data.config.algo.name} learned no probabilities of options: only searches by "
            "gradients do"
        )
    labels = list(table)
    epochs = epochs_of(data.history)
    best = {label: p.max(axis=1).reindex(data.history.index) for label, p in table.items()}
    options = {label: p.idxmax(axis=1).reindex(data.history.index) for label, p in table.items()}
    hover = [
        [
            f"<b>{escape(label)}</b>, epoch {epoch}<br>{escape(str(option))} {probability:.3f}"
            for epoch, option, probability in zip(epochs, options[label], best[label], strict=True)
        ]
        for label in labels
    ]
    z = np.array([best[label].to_numpy() for label in labels])
    figure = epochs_map(z, labels, epochs.tolist(), hover, "Probability")
    last = [
        short(_name(data, label, str(options[label].dropna().iloc[-1])), OPTION) for label in labels
    ]
    for at, text in enumerate(last):
        figure.add_annotation(
            x=1.0,
            xref="paper",
            xanchor="left",
            xshift=6,
            y=at,
            text=escape(text),
            showarrow=False,
            font={"size": 11, "color": INK},
        )
    right = max(map(width_of, last)) + 12
    width = figure.layout.meta["min_width"] + right
    figure.update_layout(margin_r=right, meta={"min_width": width})
    return figure


def _name(data: ReportData, label: str, option: str) -> str:
    # an input without a key is an empty text
    return data.option_name(label, int(option)) if option.isdigit() else option or "NO_KEY"
