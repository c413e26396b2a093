"""What the evaluations at the end of a search gave, as a part of the report."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from raynas.report.columns import column_texts
from raynas.report.order import FINAL, best_first
from raynas.report.scale import plain
from raynas.report.sections import html_table

if TYPE_CHECKING:
    import pandas as pd

    from raynas.report.findings import ReportData


TITLE = "The best, evaluated again"


def final_section(data: ReportData) -> str:
    """Return both scores of the architectures that were evaluated again, and what failed there."""
    frame, config = data.completed, data.config.final
    if config is None:
        return ""
    said = list(map(escape, data.final_said.splitlines()))
    table = ""
    if FINAL in frame and frame[FINAL].notna().any():
        times = f", the mean of {config.seeds} seeds" if config.seeds > 1 else ""
        by = f"At the end: by {config.evaluator.name!r}{times}; the best is the best of these."
        said.insert(0, escape(by))
        table = _table(best_first(frame[frame[FINAL].notna()]), data)
    if not said:
        return ""
    return f"<section><h2>{TITLE}</h2>{table}<p>{'<br>'.join(said)}</p></section>"


def _table(frame: pd.DataFrame, data: ReportData) -> str:
    """Return both scores, the best at the end first."""
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
    return html_table(TITLE, heads, [list(row) for row in zip(*columns, strict=True)])
