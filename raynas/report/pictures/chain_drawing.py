"""A chain of layers, row by row, and decisions that are no layers as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from raynas.core.arch import Arch
from raynas.report.findings import ReportData
from raynas.report.network import Group
from raynas.report.pictures.boxes import Box, Line
from raynas.report.pictures.style import short, width_of

COLUMNS, GAP, TEXT, LINE = 4, 26, 20, 15  # boxes of a row; pixels; characters; pixels
Drawing = tuple[list[Box], list[Line], float, float]


def chain_drawing(data: ReportData, arch: Arch, groups: Sequence[Group], top: float) -> Drawing:
    """Return boxes, lines, width and height of layers that follow each other.

    Rows are read from left to right.

    Args:
        data: of the run.
        arch: that is drawn.
        groups: its layers.
        top: where it begins.
    """
    texts = [_lines(data, arch, group) for group in groups]
    wide = max(width_of(line) for lines in texts for line in lines) + 10
    tall = LINE * max(map(len, texts)) + 10
    boxes, lines = [], []
    for at, (group, content) in enumerate(zip(groups, texts, strict=True)):
        row, column = divmod(at, COLUMNS)
        x = 8 + wide / 2 + column * (wide + GAP)
        y = top + tall / 2 + row * (tall + GAP)
        first, *rest = map(escape, content)
        text = "<br>".join([first, *(f"<b>{line}</b>" for line in rest)])
        full = ", ".join(
            data.decided(Arch({label: arch[label] for label in group.labels.values()}))
        )
        boxes.append(Box(x, y, wide, tall, text, escape(full) or text))
        if at:
            lines.append(_step(boxes[-2], boxes[-1]))
    rows = -(-len(groups) // COLUMNS)
    columns = min(COLUMNS, len(groups))
    return boxes, lines, 16 + columns * (wide + GAP) - GAP, rows * (tall + GAP) - GAP


def tree_drawing(data: ReportData, arch: Arch, groups: Sequence[Group], top: float) -> Drawing:
    """Return boxes, lines, width and height of decisions as a tree: part, label, what it takes.

    Args:
        data: of the run.
        arch: that is drawn.
        groups: its parts.
        top: where it begins.
    """
    leaves = [
        (at, short(f"{rest or group.name}: {data.picked(label, arch[label])}", 2 * TEXT))
        for at, group in enumerate(groups)
        for rest, label in group.labels.items()
    ]
    names = [short(group.name, TEXT) for group in groups]
    lane = LINE + 15
    root_wide, name_wide = width_of("network") + 10, max(map(width_of, names)) + 10
    leaf_wide = max(width_of(text) for _, text in leaves) + 10
    boxes, lines = [], []
    height = lane * len(leaves)
    root = Box(8 + root_wide / 2, top + height / 2, root_wide, LINE + 7, "network", dark=True)
    boxes.append(root)
    name_x = 8 + root_wide + GAP + name_wide / 2
    leaf_x = name_x + name_wide / 2 + GAP + leaf_wide / 2
    for at, name in enumerate(names):
        own = [lane * (place + 0.5) for place, (group, _) in enumerate(leaves) if group == at]
        alone = list(groups[at].labels) == [""]
        y = top + sum(own) / len(own)
        if not alone:
            boxes.append(Box(name_x, y, name_wide, LINE + 7, escape(name), escape(groups[at].name)))
            lines.append(_between(root, boxes[-1]))
        parent = root if alone else boxes[-1]
        for place, (group, text) in enumerate(leaves):
            if group == at:
                y = top + lane * (place + 0.5)
                boxes.append(Box(leaf_x, y, leaf_wide, LINE + 7, escape(text)))
                lines.append(_between(parent, boxes[-1]))
    return boxes, lines, leaf_x + leaf_wide / 2 + 8, height


def _lines(data: ReportData, arch: Arch, group: Group) -> list[str]:
    """Return the name of a layer, and what it takes."""
    found = [short(group.name, TEXT)]
    for rest, label in group.labels.items():
        said = data.picked(label, arch[label])
        found.append(short(said if rest in ("", "op") else f"{rest} {said}", TEXT))
    return found


def _step(before: Box, after: Box) -> Line:
    if after.y == before.y:
        return _between(before, after)
    middle = before.y + before.height / 2 + GAP / 2
    start = (before.x, before.y + before.height / 2)
    end = (after.x, after.y - after.height / 2)
    return Line([start, (before.x, middle), (after.x, middle), end])


def _between(left: Box, right: Box) -> Line:
    return Line([(left.x + left.width / 2, left.y), (right.x - right.width / 2, right.y)])
