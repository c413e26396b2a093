"""What the evaluations at the end of a search gave, as a part of the report."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from raynas.report.columns import column_texts
from raynas.report.order import FINAL, best_first
from raynas.report.scale import plain
from raynas.report.sections import html_table

if TYPE_CHECKING:
    from raynas.report.findings import ReportData


def final_section(data: ReportData) -> str:
    """Return both scores of the architectures that were evaluated again, if any were."""
    frame = data.completed
    if FINAL not in frame or data.config.final is None:
        return ""
    frame = best_first(frame[frame[FINAL].notna()])
    if frame.empty:
        return ""
    metrics = [name for name in data.config.objectives if f"final_{name}" in frame]
    heads, columns = ["Trial"], [[str(number) for number in frame["trial"]]]
    for name in metrics:
        title = escape(plain(name).title)
        heads += [f"{title} in the search", f"{title} at the end"]
        both = [*frame[name], *frame[f"final_{name}"]]
        texts = column_texts(both, name)
        columns += [texts[: len(frame)], texts[len(frame) :]]
        if f"final_{name}_std" in frame:
            heads.append("± seeds")
            columns.append(column_texts(frame[f"final_{name}_std"].tolist(), name))
    heads.append("Architecture")
    columns.append([f"<code>{escape(key)}</code>" for key in frame["arch_key"]])
    rows = [list(row) for row in zip(*columns, strict=True)]
    config = data.config.final
    times = f", the mean of {config.seeds} seeds" if config.seeds > 1 else ""
    said = f"At the end: by {config.evaluator.name!r}{times}; the best is the best of these."
    lines = "<br>".join(map(escape, filter(None, (said, data.final_said))))
    title = "The best, evaluated again"
    return f"<section><h2>{title}</h2>{html_table(title, heads, rows)}<p>{lines}</p></section>"
