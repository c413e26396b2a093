"""When each worker evaluated what, and how long the supernet was trained before."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raynas.report.findings import ReportData
from raynas.report.pictures.points import by_status, trace_kind
from raynas.report.pictures.style import (
    BEST,
    INK,
    POINT,
    QUIET,
    NothingToDraw,
    blank_figure,
    named_axis,
    short,
)

UNITS = ((2 * 86400.0, 86400.0, "days"), (7200.0, 3600.0, "h"), (120.0, 60.0, "min"))
TRAINING = "Training of the supernet"


def timeline(data: ReportData) -> go.Figure:
    """Draw when each worker evaluated what, and the epochs of the supernet's training.

    When epochs began is not recorded, how long they took is: they are drawn one after another, so
    that the last ends where the first trial begins.

    Raises:
        NothingToDraw: times were not kept.
    """
    trials = timed(data)
    durations = training_durations_s(data)
    if trials.empty and not len(durations):
        raise NothingToDraw("no times were kept: neither of trials nor of a supernet's training")
    begin = trials["started_utc"].min() if len(trials) else pd.Timestamp(0, tz="UTC")
    origin = begin - pd.Timedelta(seconds=float(durations.sum()))
    end = trials["finished_utc"].max() if len(trials) else begin
    factor, unit = _unit((end - origin).total_seconds())
    workers = list(dict.fromkeys(_worker(row) for row in trials.to_dict("records")))
    rows = [*([TRAINING] if len(durations) else []), *workers]
    figure = blank_figure(f"Time ({unit})", "")
    if len(durations):
        trained = np.cumsum(durations) / factor
        hover = [f"epoch {at}: {s:.3g} s" for at, s in enumerate(durations, 1)]
        begun = trained - durations / factor
        _add_bars(figure, data, "Training", begun, trained, np.zeros(len(trained)), hover)
    for status, group in by_status(trials):
        places = [rows.index(_worker(row)) for row in group.to_dict("records")]
        starts, ends = (
            ((group[name] - origin).dt.total_seconds() / factor).to_numpy()
            for name in ("started_utc", "finished_utc")
        )
        hover = [
            f"<b>trial {number}</b> ({escape(key)})<br>{status}, {seconds:.3g} s"
            for number, key, seconds in zip(
                group["trial"], group["arch_key"], group["duration_s"], strict=True
            )
        ]
        _add_bars(figure, data, status.capitalize(), starts, ends, np.array(places), hover)
    figure.update_yaxes(named_axis([short(name, 24) for name in rows]))
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5])
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(height=130 + 34 * len(rows), meta={"min_width": 420})
    return figure


def timed(data: ReportData) -> pd.DataFrame:
    """Return the trials whose times were kept, in the order in which they began."""
    told = data.told
    kept = told[(told["started_utc"].dt.year >= 2000) & (told["duration_s"] > 0)]
    ordered: pd.DataFrame = kept.sort_values("started_utc", kind="stable")
    return ordered


def training_durations_s(data: ReportData) -> np.ndarray:
    """Return how long each epoch of the supernet's training took."""
    if "duration_s" not in data.history:
        return np.zeros(0)
    durations: np.ndarray = data.history["duration_s"].dropna().to_numpy(np.float64)
    return durations


def _unit(span_s: float) -> tuple[float, str]:
    fitting = ((factor, unit) for least, factor, unit in UNITS if span_s >= least)
    return next(fitting, (1.0, "s"))


def _worker(row: Mapping[Hashable, Any]) -> str:
    return f"{row['node']} {row['worker']}"


def _add_bars(
    figure: go.Figure,
    data: ReportData,
    name: str,
    starts: np.ndarray,
    ends: np.ndarray,
    rows: np.ndarray,
    hover: list[str],
) -> None:
    """Add bars as one broken line, which thousands of trials take as well."""
    gap = np.full(len(starts), np.nan)
    colours = {"Completed": POINT, "Failed": BEST, "Training": INK}
    figure.add_trace(
        trace_kind(data)(
            x=np.column_stack([starts, ends, gap]).ravel(),
            y=np.column_stack([rows, rows, gap]).ravel(),
            name=name,
            mode="lines+markers",
            line={"width": 14, "color": colours.get(name, QUIET)},
            marker={"size": 2, "color": "white"},
            hovertext=[text for text in hover for _ in range(3)],
            hoverinfo="text",
        )
    )
