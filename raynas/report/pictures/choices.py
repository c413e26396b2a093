"""How the trials with each option did: a heat map of decisions and options."""

from __future__ import annotations

from html import escape
from itertools import groupby
from operator import attrgetter

import numpy as np
import plotly.graph_objects as go

from raynas.report.effects import Effect, effects
from raynas.report.findings import FEWEST, ReportData, scales
from raynas.report.pictures.style import (
    EVEN,
    POINT,
    WORSE,
    NothingToDraw,
    blank_figure,
    colour_bar,
    named_axis,
    short,
)
from raynas.report.scale import Scale
from raynas.report.trial_tables import number

SURE = 5  # trials from which on an average takes part in the range of colours
LABEL = 24  # characters of a decision's name beside the heat map


def choices(data: ReportData) -> go.Figure:
    """Draw a heat map of decisions and options: mean objective of their trials, less the mean.

    Where decisions differ in their options, the cells name them, and columns mean nothing.

    Raises:
        NothingToDraw: fewer than two trials were completed, or no option differs from another.
    """
    found, count = effects(data), len(data.completed)
    if not found or count < FEWEST:
        raise NothingToDraw(
            f"a comparison of options needs at least {FEWEST} completed trials, got {count}"
        )
    if not any(cell.effect for cell in found):
        raise NothingToDraw("there is nothing to compare: the trials of all options score alike")
    (y,) = scales(data, data.objective.metric)
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
    limit = y.factor * (max(sizes, default=0.0) or max(abs(cell.effect) for cell in found))
    colours = (WORSE, EVEN, POINT)[:: data.objective.sign]
    unit = _difference_unit(y)
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
        colorbar=colour_bar(f"Difference ({unit})" if unit else "Difference"),
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
