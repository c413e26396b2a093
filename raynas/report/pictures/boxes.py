"""Boxes with text, and lines between them, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from raynas.report.pictures.style import GRID, INK, PALE, QUIET


class Box(NamedTuple):
    """A box: its centre and size, its text as HTML, what hovering tells, and whether it is a node.

    A node is dark.
    """

    x: float
    y: float
    width: float
    height: float
    text: str
    hover: str = ""
    dark: bool = False


class Line(NamedTuple):
    """A line through points; ``arrow`` ends it in one."""

    points: Sequence[tuple[float, float]]
    arrow: bool = True


def draw(figure: go.Figure, boxes: Sequence[Box], lines: Sequence[Line]) -> None:
    """Add lines and, over them, boxes.

    Args:
        figure: to add to.
        boxes: with their texts.
        lines: that end at the edges of boxes.
    """
    ends = [line.points[-1] for line in lines if line.arrow]
    figure.add_scatter(
        x=[x for x, _ in ends],
        y=[y for _, y in ends],
        name="Ends",
        mode="markers",
        marker={"size": 4, "color": QUIET},
        hoverinfo="skip",
    )
    figure.update_layout(shapes=[*map(_line_shape, lines), *map(_box_shape, boxes)])
    figure.add_scatter(
        x=[box.x for box in boxes],
        y=[box.y for box in boxes],
        name="Parts",
        mode="text",
        text=[box.text for box in boxes],
        textfont={"size": 11, "color": ["white" if box.dark else INK for box in boxes]},
        hovertext=[box.hover or box.text for box in boxes],
        hoverinfo="text",
        cliponaxis=False,
    )


def _line_shape(line: Line) -> dict[str, object]:
    path = " L ".join(f"{x:g},{y:g}" for x, y in line.points)
    return {
        "type": "path",
        "path": f"M {path}",
        "line": {"color": QUIET, "width": 1.2},
        "layer": "between",
    }


def _box_shape(box: Box) -> dict[str, object]:
    left, top = box.x - box.width / 2, box.y - box.height / 2
    right, bottom = left + box.width, top + box.height
    return {
        "type": "rect",
        "x0": left,
        "x1": right,
        "y0": top,
        "y1": bottom,
        "line": {"color": QUIET if box.dark else GRID, "width": 1},
        "fillcolor": QUIET if box.dark else PALE,
        "layer": "between",
    }
