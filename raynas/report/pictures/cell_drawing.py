"""A cell as a graph: nodes from left to right, and a box for every operation between them."""

from __future__ import annotations

from html import escape

from raynas.core.arch import Arch
from raynas.report.findings import ReportData
from raynas.report.network import DrawnCell
from raynas.report.pictures.boxes import Box, Line
from raynas.report.pictures.style import short, width_of

LANE, NODE, GAP = 32, 30, 34  # pixels
BOX_HEIGHT, TEXT = 22, 18


def cell_drawing(
    data: ReportData, arch: Arch, cell: DrawnCell, top: float
) -> tuple[list[Box], list[Line], float, float]:
    """Return boxes, lines, width and height of a cell.

    Every operation has a lane of its own, in which what it reads comes to it, so that no box
    covers another, nor a line a box.

    Args:
        data: of the run.
        arch: that is drawn.
        cell: of it.
        top: where it begins.
    """
    texts = [escape(short(data.picked(e.label, arch[e.label]), TEXT)) for e in cell.edges]
    depth = _depths(cell)
    columns = max(depth.values())
    wide = max(width_of(text) for text in texts) + 12
    step = NODE + wide + 2 * GAP
    nodes = list(dict.fromkeys(edge.node for edge in cell.edges))
    inputs = [name for name in depth if name not in nodes]
    lanes = {at: top + LANE * (at + 0.5) for at in range(len(cell.edges))}
    y = {
        node: sum(lanes[at] for at, e in enumerate(cell.edges) if e.node == node)
        / sum(e.node == node for e in cell.edges)
        for node in nodes
    }
    height = LANE * max(len(cell.edges), len(inputs))
    for at, name in enumerate(inputs):
        y[name] = top + height * (at + 0.5) / len(inputs)
    x = {name: 8 + NODE / 2 + step * at for name, at in depth.items()}
    boxes = [Box(x[n], y[n], NODE, BOX_HEIGHT, escape(n), f"node {escape(n)}", True) for n in y]
    lines = []
    for at, (edge, text) in enumerate(zip(cell.edges, texts, strict=True)):
        centre = x[edge.node] - NODE / 2 - GAP - wide / 2
        hover = f"{escape(edge.source)} to {escape(edge.node)}<br><b>{text}</b>"
        boxes.append(Box(centre, lanes[at], wide, BOX_HEIGHT, text, hover))
        left, right = centre - wide / 2, centre + wide / 2
        start, lane = x[edge.source] + NODE / 2, lanes[at]
        lines.append(Line([(start, y[edge.source]), (start + GAP - 4, lane), (left, lane)]))
        lines.append(Line([(right, lanes[at]), (x[edge.node] - NODE / 2, y[edge.node])]))
    return boxes, lines, step * columns + NODE + 16, height


def _depths(cell: DrawnCell) -> dict[str, int]:
    """Return by how many operations each node lies behind the inputs at most."""
    depth: dict[str, int] = {}
    sources: dict[str, list[str]] = {}
    for edge in cell.edges:
        sources.setdefault(edge.node, []).append(edge.source)
    for edge in sorted(cell.edges, key=lambda edge: _number(edge.node)):
        for source in sources[edge.node]:
            depth.setdefault(source, 0)
        depth[edge.node] = 1 + max(depth[source] for source in sources[edge.node])
    return dict(sorted(depth.items(), key=lambda item: (item[1], item[0])))


def _number(node: str) -> int:
    return int(node.removeprefix("n"))
