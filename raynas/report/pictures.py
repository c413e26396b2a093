"""The pictures of a report: each a function from a run's data to a plotly figure.

A picture that has nothing to show, such as one of a single trial, is None. Whatever a user named
(labels, options, metrics) is escaped, since plotly reads its texts as HTML.
"""

from __future__ import annotations

import textwrap
from collections.abc import Container, Sequence
from html import escape
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raynas.core.arch import Arch
from raynas.core.metrics import probed
from raynas.report.findings import (
    Effect,
    ReportData,
    Scale,
    atoms,
    effects,
    front,
    opponent,
    plain,
    running_best,
    scale,
)
from raynas.report.trial_tables import number

INK, QUIET, GRID = "#1f2933", "#616e7c", "#e4e7eb"
POINT, BEST, WORSE, EVEN = "#3a6ea5", "#d9480f", "#a8641f", "#edeeec"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Ubuntu, sans-serif"
WEBGL_OVER = 5000  # trials; SVG is too slow for more
HOVER_COLUMNS, HOVER_LINES = 50, 16
SURE = 5  # trials from which on an average takes part in the range of colours
LABEL = 24  # characters of a decision's name beside the heat map
FEWEST = 2  # trials from which on a picture shows more than the table does


def tradeoff(data: ReportData) -> go.Figure | None:
    """Draw the objective against a cost: every trial, the Pareto front, the best."""
    other = opponent(data)
    frame = data.measured if other is None else data.measured.dropna(subset=[other.metric])
    if other is None or len(frame) < FEWEST:
        return None
    x, y = _scales(data, other.metric, data.objective.metric)
    figure = blank_figure(x.title, y.title)
    for status, rows in _by_status(frame):
        _points(figure, data, rows, status, rows[other.metric] * x.factor, y, decisions=True)
    line = front(data, other)
    figure.add_trace(
        _kind(data)(
            x=line[other.metric] * x.factor,
            y=line[data.objective.metric] * y.factor,
            name="Pareto front",
            mode="lines+markers",
            line={"color": INK, "width": 1.5, "shape": "hv" if other.goal == "min" else "vh"},
            marker={"size": 6},
            hoverinfo="skip",
        )
    )
    best = data.best.dropna(subset=[other.metric])
    _mark_best(figure, data, best, best[other.metric] * x.factor, y, decisions=True)
    return figure


def progress(data: ReportData) -> go.Figure | None:
    """Draw the objective of every trial in the order of tells, and the best so far."""
    if len(data.measured) < FEWEST:
        return None
    (y,) = _scales(data, data.objective.metric)
    figure = blank_figure("Trials told", y.title)
    for status, rows in _by_status(data.measured):
        _points(figure, data, rows, status, rows.index + 1, y)
    best = running_best(data)
    to_the_end = pd.Series(best.tail(1).to_list(), index=[len(data.told) - 1] * len(best.tail(1)))
    best = pd.concat([best, to_the_end])
    figure.add_trace(
        _kind(data)(
            x=best.index + 1,
            y=best * y.factor,
            name="Best so far",
            mode="lines",
            line={"color": INK, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
        )
    )
    _mark_best(figure, data, data.best, data.best.index + 1, y)
    return figure


def training(data: ReportData) -> go.Figure | None:
    """Draw the supernet's loss and the score of random subnets over the epochs."""
    history = data.history
    metric = probed(data.config.task_metric)
    accuracy = metric.endswith("accuracy")
    names = {"loss": "Training loss", metric: "Accuracy (%)" if accuracy else plain(metric).title}
    shown = [n for n in names if n in history and history[n].notna().any()]
    if not shown:
        return None
    epochs = history["epoch"] + 1 if "epoch" in history else pd.Series(range(1, len(history) + 1))
    figure = make_subplots(len(shown), 1, shared_xaxes=True, vertical_spacing=0.08)
    figure.update_layout(blank_figure("Epoch", "").layout)
    for row, name in enumerate(shown, 1):
        share = accuracy and name == metric
        factor = 100.0 if share else 1.0
        figure.add_scatter(
            x=epochs,
            y=history[name] * factor,
            mode="lines+markers",
            line={"color": POINT, "width": 2},
            marker={"size": 5},
            hovertemplate=f"epoch %{{x}}: %{{y:.4g}}{' %' if share else ''}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(_axis(names[name]), row=row, col=1)
    figure.update_xaxes(_axis(""))
    figure.update_xaxes(title_text="Epoch", row=len(shown), col=1)
    figure.update_layout(showlegend=False, height=230 * len(shown))
    return figure


def choices(data: ReportData) -> go.Figure | None:
    """Draw a heat map of decisions and options: mean objective of their trials, less the mean.

    Where decisions differ in their options, the cells name them, and columns mean nothing.
    """
    found = effects(data)
    if not found or len(data.completed) < FEWEST:
        return None
    (y,) = _scales(data, data.objective.metric)
    rows = [list(cells) for _, cells in groupby(found, attrgetter("decision"))]
    columns = [cell.option for cell in max(rows, key=len)]
    alike = all(cell.option in columns for cell in found)
    effect = np.full((len(rows), len(columns)), np.nan)
    text, hover = np.full(effect.shape, "", object), np.full(effect.shape, "", object)
    for row, cells in enumerate(rows):
        for place, cell in enumerate(cells):
            at = row, columns.index(cell.option) if alike else place
            few = str(cell.trials) if cell.trials < SURE else ""
            effect[at] = cell.effect * y.factor
            text[at] = few if alike else _cell_name(cell, few)
            hover[at] = _cell_hover(cell, y, data.objective.metric)
    sizes = [abs(cell.effect) for cell in found if cell.trials >= SURE]
    limit = y.factor * max(sizes or [abs(cell.effect) for cell in found]) or 1.0
    colours = (WORSE, EVEN, POINT)[:: data.objective.sign]
    figure = blank_figure("", "")
    figure.add_heatmap(
        z=effect,
        text=text,
        texttemplate="%{text}",
        textfont={"size": 11},
        hovertext=hover,
        hoverinfo="text",
        hoverongaps=False,
        xgap=2,
        ygap=2,
        zmin=-limit,
        zmax=limit,
        colorscale=[[at / 2, colour] for at, colour in enumerate(colours)],
        colorbar=_colour_bar(_difference_unit(y)),
    )
    figure.update_xaxes(named_axis([short(name, 14) for name in columns]))
    figure.update_xaxes(side="top", showticklabels=alike)
    figure.update_yaxes(named_axis([short(cells[0].decision, LABEL) for cells in rows]))
    figure.update_yaxes(autorange="reversed")
    width = 160 + len(columns) * (30 if alike else 100)
    figure.update_layout(height=130 + 24 * len(rows), meta={"min_width": width})
    return figure


def _cell_name(cell: Effect, few: str) -> str:
    return escape(short(cell.option, 12) + (f" ({few})" if few else ""))


def _cell_hover(cell: Effect, y: Scale, metric: str) -> str:
    difference = f"{cell.effect * y.factor:+.3g} {_difference_unit(y)}".strip()
    trials = f"{cell.trials} trial{'s' if cell.trials > 1 else ''}"
    return (
        f"<b>{escape(cell.decision)}: {escape(cell.option)}</b><br>{trials}, "
        f"mean {escape(metric)} {number(cell.mean, metric)}<br>{difference} from the mean of all"
    )


def _difference_unit(y: Scale) -> str:
    return "percentage points" if y.unit == "%" else y.unit


def named_axis(names: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an axis whose places have names."""
    texts = [escape(name) for name in names]
    return {"showgrid": False, "ticks": "", "tickvals": [*range(len(names))], "ticktext": texts}


def _colour_bar(unit: str) -> dict[str, Any]:
    title = f"Difference ({unit})" if unit else "Difference"
    return {
        "orientation": "h",
        "thickness": 8,
        "len": 1.0,
        "outlinewidth": 0,
        "y": 0,
        "yanchor": "top",
        "title": {"text": title, "side": "bottom", "font": {"size": 12, "color": QUIET}},
        "tickfont": {"color": QUIET},
        "nticks": 5,
    }


def _scales(data: ReportData, *metrics: str) -> list[Scale]:
    found = [scale(metric, data.measured[metric]) for metric in metrics]
    return [Scale(escape(s.name), escape(s.unit), s.factor) for s in found]


def _kind(data: ReportData) -> Any:
    """Return the class of all traces of a picture: WebGL would cover what SVG draws."""
    return go.Scattergl if len(data.told) > WEBGL_OVER else go.Scatter


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
    marker = {
        "size": 7,
        "color": POINT if done else QUIET,
        "opacity": 0.5,
        "symbol": "circle" if done else "circle-open",
    }
    figure.add_trace(
        _kind(data)(
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
    edge = {"color": "white", "width": 1}
    figure.add_trace(
        _kind(data)(
            x=x,
            y=best[data.objective.metric] * y.factor,
            name="Best trial",
            mode="markers",
            marker={"size": 15, "color": BEST, "symbol": "star", "line": edge},
            hovertext=_hovers(data, best, decisions),
            hoverinfo="text",
        )
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
        made = _decisions(data.archs[at], data.single) if decisions else []
        texts.append("<br>".join(lines + made))
    return texts


def _decisions(arch: Arch, single: Container[str]) -> list[str]:
    lines = _wrapped(decided(arch, single))
    return ["", *lines[:HOVER_LINES], *(["…"] if len(lines) > HOVER_LINES else [])]


def _wrapped(parts: Sequence[str]) -> list[str]:
    """Return the parts, none of them broken unless it must be, as escaped lines."""
    kept = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
    return [escape(line) for line in textwrap.wrap(kept, HOVER_COLUMNS, break_on_hyphens=False)]


def decided(arch: Arch, single: Container[str]) -> list[str]:
    """Return what an architecture takes at each label, as text.

    Args:
        arch: to be told.
        single: labels at which one option is picked.
    """
    return [f"{label}: {shown(v, single=label in single)}" for label, v in arch.items()]


def shown(value: Any, *, single: bool = False) -> str:
    """Return a choice as text; the members of a subset are joined.

    >>> shown(3), shown(("conv", "skip")), shown(()), shown((3, 5), single=True)
    ('3', 'conv + skip', 'none', '(3, 5)')

    Args:
        value: at a decision.
        single: whether the decision picks one option, so that a tuple is one.
    """
    return " + ".join(map(str, atoms(value, single=single))) or "none"


def short(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters, its middle left out where it is longer."""
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


def blank_figure(x: str, y: str) -> go.Figure:
    """Return a figure without traces, with the titles of its axes."""
    return go.Figure(
        layout={
            "template": "none",
            "height": 440,
            "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
            "font": {"family": FONT, "size": 12, "color": INK},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "hovermode": "closest",
            "hoverlabel": {
                "bgcolor": "white",
                "bordercolor": QUIET,
                "align": "left",
                "font": {"family": FONT, "size": 12, "color": INK},
            },
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "xaxis": _axis(x),
            "yaxis": _axis(y),
        }
    )
