"""What all pictures share: colours, axes, colour bars, and the words for an empty one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from raynas.core.errors import Unfinished

INK, QUIET, GRID = "#1f2933", "#616e7c", "#e4e7eb"
POINT, BEST, WORSE, EVEN, PALE = "#3a6ea5", "#d9480f", "#a8641f", "#edeeec", "#f4f6f8"
PARENT = "#c3cad2"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Ubuntu, sans-serif"
LETTER = 7  # pixels that a letter of 12 px takes at most, on average
TICKS = 8  # at most, on an axis that counts


class NothingToDraw(Unfinished):
    """A run holds nothing that a picture could show."""


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
            "xaxis": axis(x),
            "yaxis": axis(y),
        }
    )


def bare_figure(width: float, height: float) -> go.Figure:
    """Return a figure for a drawing in pixels, without axes, y downwards.

    Args:
        width: of the drawing.
        height: of the drawing.
    """
    figure = blank_figure("", "")
    figure.update_xaxes(range=[0, width], visible=False, fixedrange=True)
    figure.update_yaxes(range=[height, 0], visible=False, fixedrange=True)
    figure.update_layout(
        height=height + 16, width=width + 20, showlegend=False, meta={"min_width": int(width) + 20}
    )
    return figure


def axis(title: str) -> dict[str, Any]:
    """Return the settings of an axis of this title."""
    return {
        "title": {"text": title, "font": {"size": 13, "color": QUIET}, "standoff": 10},
        "tickfont": {"color": QUIET},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
    }


def named_axis(names: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an axis whose places have names."""
    texts = [escape(name) for name in names]
    return {"showgrid": False, "ticks": "", "tickvals": [*range(len(names))], "ticktext": texts}


def count_axis(first: float, last: float) -> dict[str, Any]:
    """Return the settings of an axis that counts: ticks at whole numbers, round ones if many.

    >>> count_axis(1, 3)["dtick"], count_axis(1, 60)["dtick"], count_axis(1, 1)["range"]
    (1, 10, [0.5, 1.5])

    Args:
        first: number on it.
        last: likewise.
    """
    wanted = max(1.0, (last - first) / TICKS)
    scale = 10 ** math.floor(math.log10(wanted))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= wanted)
    settings: dict[str, Any] = {"tick0": first if step == 1 else 0, "dtick": step}
    if first == last:
        settings["range"] = [first - 0.5, last + 0.5]
    return settings


def value_axis(values: Any) -> dict[str, Any]:
    """Return the settings of an axis of measured values: a tenth around, where all are equal.

    Args:
        values: that are drawn, NaN for none.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite) or finite.min() < finite.max():
        return {}
    value = float(finite[0])
    around = abs(value) / 10 or 1.0
    return {"range": [value - around, value + around]}


def colour_bar(title: str) -> dict[str, Any]:
    """Return the settings of a colour bar below a picture, where it covers nothing."""
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


def short(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters, its middle left out where it is longer."""
    half = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


def width_of(text: str) -> int:
    """Return how many pixels a text takes at most."""
    return LETTER * len(text)
