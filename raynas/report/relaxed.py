"""Pictures of a search by gradients: what every choice prefers, and how edges were scored."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raynas.report.findings import ReportData
from raynas.report.pictures import BEST, INK, POINT, blank_figure, named_axis, short

ALPHA, SCORE = "alpha.", "score."  # columns alpha.<label>.<option> and score.<label>
LABEL = 28
PALE = "#f4f6f8"


def preferences(data: ReportData) -> go.Figure | None:
    """Draw, per choice and epoch, the probability of the option that it prefers.

    A row's last cell names the option; decided choices are certain from then on.
    """
    table = _probabilities(data.history)
    if not table:
        return None
    labels = list(table)
    epochs = [int(epoch) + 1 for epoch in data.history["epoch"]]
    z = np.array([p.max(axis=1).to_numpy() for p in table.values()])
    hover = [
        [
            f"<b>{escape(label)}</b>, epoch {epoch}<br>{escape(str(row.idxmax()))} {row.max():.3f}"
            for epoch, (_, row) in zip(epochs, p.iterrows(), strict=True)
        ]
        for label, p in table.items()
    ]
    figure = _map(z, [short(label, LABEL) for label in labels], epochs, hover, "Probability")
    for at, p in enumerate(table.values()):
        figure.add_annotation(
            x=1.0,
            xref="paper",
            xanchor="left",
            xshift=6,
            y=at,
            text=escape(short(str(p.iloc[-1].idxmax()), 18)),
            showarrow=False,
            font={"size": 11, "color": INK},
        )
    figure.update_layout(margin_r=220)
    figure.data[0].colorbar.x = 1.22
    return figure


def edge_scores(data: ReportData) -> go.Figure | None:
    """Draw, per edge and epoch, the score that decides; a star marks the epoch of a decision."""
    history = data.history
    names = [str(name) for name in history]
    labels = [name.removeprefix(SCORE) for name in names if name.startswith(SCORE)]
    if not labels:
        return None
    epochs = [int(epoch) + 1 for epoch in history["epoch"]]
    z = np.array([history[f"{SCORE}{label}"].to_numpy(dtype=float) for label in labels])
    hover = [
        [
            f"<b>{escape(label)}</b>, epoch {epoch}<br>score {value:.3f}"
            for epoch, value in zip(epochs, row, strict=True)
        ]
        for label, row in zip(labels, z, strict=True)
    ]
    figure = _map(z, [short(label, LABEL) for label in labels], epochs, hover, "Score")
    marks = _decisions(history, labels)
    figure.add_scatter(
        x=[epochs[at] for _, at, _ in marks],
        y=[row for row, _, _ in marks],
        mode="markers",
        marker={
            "symbol": "star",
            "size": 11,
            "color": BEST,
            "line": {"color": "white", "width": 1},
        },
        hovertext=[f"decided: {escape(option)}" for _, _, option in marks],
        hoverinfo="text",
        showlegend=False,
    )
    return figure


def _probabilities(history: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return, by label, a table of epochs and options."""
    found: dict[str, list[str]] = {}
    for name in history:
        if str(name).startswith(ALPHA):
            label, _, _ = str(name).removeprefix(ALPHA).rpartition(".")
            found.setdefault(label, []).append(str(name))
    return {
        label: history[names].rename(columns=lambda name: name.rpartition(".")[2])
        for label, names in found.items()
    }


def _decisions(history: pd.DataFrame, labels: list[str]) -> list[tuple[int, int, str]]:
    """Return row, position of the epoch, and option of every decision for an option."""
    table, marks = _probabilities(history), []
    for row, label in enumerate(labels):
        p = table.get(label)
        if p is None:
            continue
        certain = (p == 1.0).any(axis=1).to_numpy()
        if certain.any():
            at = int(certain.argmax())
            marks.append((row, at, str(p.iloc[at].idxmax())))
    return [mark for mark in marks if mark[2] != "none"]


def _map(
    z: np.ndarray, rows: list[str], epochs: list[int], hover: list[list[str]], title: str
) -> go.Figure:
    figure = blank_figure("Epoch", "")
    figure.add_heatmap(
        z=z,
        x=epochs,
        y=[*range(len(rows))],
        hovertext=hover,
        hoverinfo="text",
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        colorscale=[[0, PALE], [1, POINT]],
        colorbar={"title": {"text": title}, "thickness": 12, "len": 0.9},
    )
    figure.update_yaxes(named_axis(rows))
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=150 + 20 * len(rows), showlegend=False)
    return figure
