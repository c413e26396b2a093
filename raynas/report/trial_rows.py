"""All trials of a run for a table that a page sorts and filters."""

from __future__ import annotations

import math
from typing import Any

from raynas.core.arch import Arch
from raynas.report.columns import column_texts
from raynas.report.findings import ReportData
from raynas.report.order import best_first
from raynas.report.scale import plain

BRIEF = 60  # characters


def trial_rows(data: ReportData) -> dict[str, Any]:
    """Return columns and rows of all trials, the best first, as JSON.

    A column has its name, its title and, for every row, ``texts`` to show and, where it is of
    numbers, ``values`` to sort by. ``briefs`` and ``archs`` are the architectures, short and whole.
    """
    frame = best_first(data.told) if "objective" in data.told else data.told
    names = ["trial", "status", *data.metrics]
    columns = [_column(name, frame[name].tolist()) for name in names if name in frame]
    archs = [data.archs[int(at)] for at in frame.index]
    return {
        "columns": columns,
        "keys": frame["arch_key"].tolist(),
        "briefs": [brief(data, arch) for arch in archs],
        "archs": [", ".join(data.decided(arch)) for arch in archs],
    }


def brief(data: ReportData, arch: Arch) -> str:
    """Return an architecture's options without their labels, cut where they are long."""
    text = " ".join(data.picked(label, value) for label, value in arch.items())
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "title": plain(name).title}
    if name == "status":
        return column | {"texts": values}
    known = [v if isinstance(v, int | float) and math.isfinite(v) else None for v in values]
    return column | {"texts": column_texts(values, name), "values": known}
