"""From which architectures the best came: every trial, and lines from parents to children."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raynas.report.findings import ReportData, scales
from raynas.report.pictures.points import add_points, mark_best, trace_kind
from raynas.report.pictures.style import (
    BEST,
    PARENT,
    NothingToDraw,
    blank_figure,
    count_axis,
    value_axis,
)


def lineage(data: ReportData) -> go.Figure:
    """Draw every trial, thin lines from parents to children, and the ancestry of the best in red.

    Raises:
        NothingToDraw: the algorithm records no parents.
    """
    metric = data.objective.metric
    links = parent_links(data)
    if not links:
        raise NothingToDraw(
            f"{data.config.algo.name} recorded no parents: evolution, regularized_evolution, "
            "local_search, perturbation and predictor do"
        )
    (y,) = scales(data, metric)
    values = data.told[metric].to_numpy(np.float64, na_value=np.nan) * y.factor
    figure = blank_figure("Trials told", y.title)
    _add_lines(figure, data, [*links.items()], values, "From parent to child", PARENT)
    path = ancestry(data, links)
    _add_lines(figure, data, path, values, "Ancestry of the best", BEST)
    measured = data.measured
    place = pd.Series(measured.index + 1, measured.index)
    add_points(figure, data, measured, place, (metric, y), decisions=True)
    mark_best(figure, data, data.best, data.best.index + 1, (metric, y))
    figure.update_xaxes(count_axis(1, len(data.told)))
    figure.update_yaxes(value_axis(values))
    return figure


def parent_links(data: ReportData) -> dict[int, int]:
    """Return the place of each trial's parent, by the child's place; both are measured."""
    if "parent" not in data.told or data.objective.metric not in data.told:
        return {}
    measured = data.measured
    once = measured.drop_duplicates("arch_key")
    first = dict(zip(once["arch_key"], once.index.tolist(), strict=True))
    parents = measured["parent"].dropna()
    pairs = zip(parents.index.tolist(), parents.tolist(), strict=True)
    return {at: first[key] for at, key in pairs if key in first}


def ancestry(data: ReportData, links: dict[int, int]) -> list[tuple[int, int]]:
    """Return the links from the best trial back to an architecture that was drawn anew.

    Args:
        data: of the run.
        links: from a child's place to its parent's.
    """
    path: list[tuple[int, int]] = []
    seen: set[int] = set()
    at = int(data.best.index[0]) if len(data.best) else -1
    while at in links and at not in seen:
        seen.add(at)
        path.append((at, links[at]))
        at = links[at]
    return path


def _add_lines(
    figure: go.Figure,
    data: ReportData,
    links: list[tuple[int, int]],
    values: np.ndarray,
    name: str,
    colour: str,
) -> None:
    if not links:
        return
    x = [place for child, parent in links for place in (parent + 1, child + 1, None)]
    y = [v for child, parent in links for v in (values[parent], values[child], None)]
    figure.add_trace(
        trace_kind(data)(
            x=x,
            y=y,
            name=name,
            mode="lines",
            line={"width": 2.5 if colour == BEST else 1, "color": colour},
            hoverinfo="skip",
        )
    )
