"""The pictures of a report: each a function from a run's data to a plotly figure.

A picture that has nothing to show is None. Whatever a user named (labels, options, metrics) is
escaped, since plotly reads its texts as HTML.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raynas.core.arch import Arch
from raynas.report.findings import (
    ReportData,
    Scale,
    atoms,
    effects,
    front,
    opponent,
    running_best,
    scale,
)
from raynas.report.table import number

INK, QUIET, GRID = "#1f2933", "#616e7c", "#e4e7eb"
POINT, BEST, WORSE, EVEN = "#3a6ea5", "#d9480f", "#a8641f", "#edeeec"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Ubuntu, sans-serif"
WEBGL_FROM = 5000  # trials from which on points are drawn by WebGL, which SVG is too slow for
HOVER_COLUMNS, HOVER_LINES = 56, 16
SURE = 5  # trials from which on an average takes part in the range of colours
LABEL = 24  # characters of a decision's name beside the heat map


def tradeoff(data: ReportData) -> go.Figure | None:
    """Draw the objective against a cost: every trial, the Pareto front, the best."""
    other = opponent(data)
    frame = data.measured if other is None else data.measured.dropna(subset=[other.metric])
    if other is None or frame.empty:
        return None
    x, y = _scales(data, other.metric, data.objective.metric)
    figure = _figure(x.title, y.title)
    for status, rows in _by_status(frame):
        _points(figure, data, rows, status, rows[other.metric] * x.factor, y, decisions=True)
    line = front(data, other)
    figure.add_scatter(
        x=line[other.metric] * x.factor,
        y=line[data.objective.metric] * y.factor,
        name="Pareto front",
        mode="lines+markers",
        line={"color": INK, "width": 1.5, "shape": "hv" if other.goal == "min" else "vh"},
        marker={"size": 6},
        hoverinfo="skip",
    )
    best = data.best.dropna(subset=[other.metric])
    _mark_best(figure, data, best, best[other.metric] * x.factor, y, decisions=True)
    return figure


def progress(data: ReportData) -> go.Figure | None:
    """Draw the objective of every trial in the order of tells, and the best so far."""
    if data.measured.empty:
        return None
    (y,) = _scales(data, data.objective.metric)
    figure = _figure("Trials told", y.title)
    for status, rows in _by_status(data.measured):
        _points(figure, data, rows, status, rows.index + 1, y)
    best = running_best(data)
    last = len(data.told)
    figure.add_scatter(
        x=[*(best.index + 1), last][: len(best) + 1 if len(best) else 0],
        y=[*(best * y.factor), *(best.tail(1) * y.factor)],
        name="Best so far",
        mode="lines",
        line={"color": INK, "width": 1.5, "shape": "hv"},
        hoverinfo="skip",
    )
    _mark_best(figure, data, data.best, data.best.index + 1, y)
    return figure


def training(data: ReportData) -> go.Figure | None:
    """Draw the supernet's loss and the accuracy of random subnets over the epochs."""
    history = data.history
    names = {"loss": "Training loss", "accuracy": "Accuracy (%)"}
    shown = [n for n in names if n in history and history[n].notna().any()]
    if not shown:
        return None
    epochs = history["epoch"] + 1 if "epoch" in history else pd.Series(range(1, len(history) + 1))
    figure = make_subplots(len(shown), 1, shared_xaxes=True, vertical_spacing=0.08)
    figure.update_layout(_figure("Epoch", "").layout)
    for row, name in enumerate(shown, 1):
        factor = 100.0 if name == "accuracy" else 1.0
        figure.add_scatter(
            x=epochs,
            y=history[name] * factor,
            mode="lines+markers",
            line={"color": POINT, "width": 2},
            marker={"size": 5},
            hovertemplate=f"epoch %{{x}}: %{{y:.4g}}{' %' if name == 'accuracy' else ''}"
            "<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(_axis(names[name]), row=row, col=1)
    figure.update_xaxes(_axis(""))
    figure.update_xaxes(title_text="Epoch", row=len(shown), col=1)
    figure.update_layout(showlegend=False, height=230 * len(shown))
    return figure


def choices(data: ReportData) -> go.Figure | None:
    """Draw a heat map of decisions and options: mean objective of their trials, less the mean."""
    table = effects(data)
    if table.empty:
        return None
    (y,) = _scales(data, data.objective.metric)
    unit = "percentage points" if y.unit == "%" else y.unit
    rows = list(table.groupby("decision", sort=False))
    options = [tuple(group["option"]) for _, group in rows]
    columns = max(options, key=len)
    alike = all(set(own) <= set(columns) for own in options)
    shape = (len(rows), len(columns))
    effect, text, hover = np.full(shape, np.nan), np.full(shape, "", object), np.full(shape, "", object)
    for at, (_, group) in enumerate(rows):
        for place, cell in enumerate(group.itertuples()):
            column = columns.index(cell.option) if alike else place
            effect[at, column] = cell.effect * y.factor
            few = str(cell.trials) if cell.trials < SURE else ""
            named = escape(_short(cell.option, 12))
            text[at, column] = few if alike else f"{named} ({few})" if few else named
            hover[at, column] = _cell(cell, y, unit, data.objective.metric)
    sure = table[table["trials"] >= SURE] if (table["trials"] >= SURE).any() else table
    limit = float(sure["effect"].abs().max() * y.factor) or 1.0
    colours = [WORSE, EVEN, POINT] if data.objective.goal == "max" else [POINT, EVEN, WORSE]
    figure = _figure("", "")
    figure.add_heatmap(
        z=effect,
        text=text,
        texttemplate="%{text}",
        hovertext=hover,
        hoverinfo="text",
        hoverongaps=False,
        xgap=2,
        ygap=2,
        zmin=-limit,
        zmax=limit,
        colorscale=[[at / 2, colour] for at, colour in enumerate(colours)],
        colorbar=_colour_bar(unit),
    )
    places = list(range(len(columns)))
    heads = [escape(_short(option, 14)) for option in columns]
    figure.update_xaxes(
        side="top", showgrid=False, tickvals=places, ticktext=heads, showticklabels=alike
    )
    labels = [escape(_short(str(label), LABEL)) for label, _ in rows]
    figure.update_yaxes(
        autorange="reversed", showgrid=False, tickvals=list(range(len(labels))), ticktext=labels
    )
    figure.update_layout(height=130 + 24 * len(rows))
    return figure


def _cell(cell: Any, y: Scale, unit: str, metric: str) -> str:
    difference = f"{cell.effect * y.factor:+.3g} {unit}".strip()
    trials = f"{cell.trials} trial{'s' if cell.trials > 1 else ''}"
    return (
        f"<b>{escape(cell.decision)}: {escape(cell.option)}</b><br>{trials}, "
        f"mean {escape(metric)} {number(cell.mean, metric)}<br>{difference} to the mean of all"
    )


def _colour_bar(unit: str) -> dict[str, Any]:
    return {
        "orientation": "h",
        "thickness": 8,
        "len": 1.0,
        "outlinewidth": 0,
        "y": 0,
        "yanchor": "top",
        "title": {"text": f"Difference ({unit})" if unit else "Difference", "side": "bottom", "font": {"size": 12, "color": QUIET}},
        "tickfont": {"color": QUIET},
        "nticks": 7,
    }


def _scales(data: ReportData, *metrics: str) -> list[Scale]:
    found = [scale(metric, data.measured[metric]) for metric in metrics]
    return [Scale(escape(s.name), escape(s.unit), s.factor) for s in found]


def _by_status(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each status, the completed ones last, so that they lie on top."""
    groups = [(str(status), rows) for status, rows in frame.groupby("status")]
    return sorted(groups, key=lambda group: group[0] == "completed")


def _points(
    figure: go.Figure,
    data: ReportData,
    rows: pd.DataFrame,
    status: str,
    x: Any,
    y: Scale,
    *,
    decisions: bool = False,
) -> None:
    done = status == "completed"
    draw = go.Scattergl if len(data.told) > WEBGL_FROM else go.Scatter
    marker = {
        "size": 7,
        "color": POINT if done else QUIET,
        "opacity": 0.5,
        "symbol": "circle" if done else "circle-open",
    }
    figure.add_trace(
        draw(
            x=x,
            y=rows[data.objective.metric] * y.factor,
            name="Trial" if done else status.capitalize(),
            mode="markers",
            marker=marker,
            hovertext=_hovers(data, rows, decisions),
            hoverinfo="text",
        )
    )


def _mark_best(
    figure: go.Figure,
    data: ReportData,
    best: pd.DataFrame,
    x: Any,
    y: Scale,
    *,
    decisions: bool = False,
) -> None:
    if best.empty:
        return
    figure.add_scatter(
        x=x,
        y=best[data.objective.metric] * y.factor,
        name="Best trial",
        mode="markers",
        marker={"size": 15, "color": BEST, "symbol": "star", "line": {"color": "white", "width": 1}},
        hovertext=_hovers(data, best, decisions),
        hoverinfo="text",
    )


def _hovers(data: ReportData, rows: pd.DataFrame, decisions: bool) -> list[str]:
    metrics = data.metrics
    values = rows[metrics].to_numpy(np.float64, na_value=np.nan)
    heads = zip(rows.index, rows["trial"], rows["arch_key"], rows["status"], values, strict=True)
    texts = []
    for at, trial, key, status, measured in heads:
        note = "" if status == "completed" else f", {status}"
        numbers = [f"{n} {number(v, n)}" for n, v in zip(metrics, measured, strict=True)]
        lines = [f"<b>trial {trial}</b> ({escape(key)}){note}", *_wrapped(numbers)]
        texts.append("<br>".join(lines + (_decisions(data.archs[at]) if decisions else [])))
    return texts


def _decisions(arch: Arch) -> list[str]:
    lines = _wrapped([f"{label}: {shown(value)}" for label, value in arch.items()])
    return ["", *lines[:HOVER_LINES], *(["…"] if len(lines) > HOVER_LINES else [])]


def _wrapped(parts: Sequence[str]) -> list[str]:
    """Return the parts, none of them broken unless it must be, as escaped lines."""
    kept = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
    return [escape(line) for line in textwrap.wrap(kept, HOVER_COLUMNS, break_on_hyphens=False)]


def shown(value: Any) -> str:
    """Return a choice as text; the members of a subset are joined.

    >>> shown(3), shown(("conv", "skip")), shown(())
    ('3', 'conv + skip', 'none')
    """
    return " + ".join(map(str, atoms(value))) or "none"


def _short(text: str, limit: int) -> str:
    half = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 13, "color": QUIET}, "standoff": 10},
        "tickfont": {"color": QUIET},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
    }


def _figure(x: str, y: str) -> go.Figure:
    return go.Figure(
        layout={
            "template": "none",
            "height": 440,
            "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
            "font": {"family": FONT, "size": 12, "color": INK},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "hovermode": "closest",
            "hoverlabel": {"bgcolor": "white", "bordercolor": GRID, "align": "left"},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "xaxis": _axis(x),
            "yaxis": _axis(y),
        }
    )
