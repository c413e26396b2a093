"""What the mouse is told over a trial: its number, what was measured, and its architecture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from raynas.report.findings import ReportData
from raynas.report.trial_tables import number

HOVER_COLUMNS, HOVER_LINES = 50, 16


def hovers(data: ReportData, rows: pd.DataFrame, *, decisions: bool) -> list[str]:
    """Return a text for every row of ``data.told``.

    Args:
        data: of the run.
        rows: of its trials.
        decisions: whether the architecture is told as well, cut where it is long.
    """
    metrics = data.metrics
    values = rows[metrics].to_numpy(np.float64, na_value=np.nan)
    heads = zip(rows.index, rows["trial"], rows["arch_key"], rows["status"], values, strict=True)
    texts = []
    for at, trial, key, status, measured in heads:
        note = "" if status == "completed" else f", {status}"
        numbers = [f"{n} {number(v, n)}" for n, v in zip(metrics, measured, strict=True)]
        lines = [f"<b>trial {trial}</b> ({escape(key)}){note}", *_wrapped(numbers)]
        texts.append("<br>".join(lines + (_decisions(data, at) if decisions else [])))
    return texts


def _decisions(data: ReportData, at: int) -> list[str]:
    lines = _wrapped(data.decided(data.archs[at]))
    return ["", *lines[:HOVER_LINES], *(["…"] if len(lines) > HOVER_LINES else [])]


def _wrapped(parts: Sequence[str]) -> list[str]:
    """Return the parts, none of them broken unless it must be, as escaped lines."""
    kept = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
    return [escape(line) for line in textwrap.wrap(kept, HOVER_COLUMNS, break_on_hyphens=False)]
