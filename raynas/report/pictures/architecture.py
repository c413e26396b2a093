"""The network that was found: its cells as graphs, its layers as a chain, the rest as a tree."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from raynas.core.arch import Arch
from raynas.report.findings import ReportData
from raynas.report.network import network_of
from raynas.report.pictures.boxes import Box, Line, draw
from raynas.report.pictures.cell_drawing import cell_drawing
from raynas.report.pictures.chain_drawing import chain_drawing, tree_drawing
from raynas.report.pictures.style import QUIET, NothingToDraw, bare_figure

TITLE, SPACE = 26, 22  # pixels


def architecture(data: ReportData, arch: Arch | None = None) -> go.Figure:
    """Draw an architecture: its cells as graphs, its layers as a chain, other decisions as a tree.

    Args:
        data: of the run.
        arch: None takes the best.

    Raises:
        NothingToDraw: no trial was completed, or the architecture decides nothing.
    """
    if arch is None:
        if data.best.empty:
            raise NothingToDraw("no architecture was found: no trial was completed")
        arch = data.archs[int(data.best.index[0])]
    if not arch:
        raise NothingToDraw("the architecture decides nothing")
    network = network_of(arch)
    boxes: list[Box] = []
    lines: list[Line] = []
    titles: list[tuple[str, float]] = []
    width = top = 0.0
    for cell in network.cells:
        titles.append((cell.name, top))
        top += TITLE
        more, between, wide, tall = cell_drawing(data, arch, cell, top)
        boxes, lines, width = [*boxes, *more], [*lines, *between], max(width, wide)
        top += tall + SPACE
    if network.groups:
        top += 6
        drawing = chain_drawing if network.chain else tree_drawing
        more, between, wide, tall = drawing(data, arch, network.groups, top)
        boxes, lines, width = [*boxes, *more], [*lines, *between], max(width, wide)
        top += tall + 6
    figure = bare_figure(width, top)
    draw(figure, boxes, lines)
    for name, at in titles:
        figure.add_annotation(
            x=0,
            y=at + TITLE / 2,
            xanchor="left",
            text=escape(name),
            showarrow=False,
            font={"size": 12, "color": QUIET},
        )
    return figure
