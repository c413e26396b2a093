"""What a search by gradients wrote into the history: probabilities of options, scores of edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from raynas.report.findings import ReportData

ALPHA, SCORE = "alpha.", "score."  # columns alpha.<label>.<option> and score.<label>


class Decided(NamedTuple):
    """An edge that was decided for an operation.

    Attributes:
        row: of the edge.
        at: position of the epoch.
        option: that was taken.
    """

    row: int
    at: int
    option: str


def probabilities(data: ReportData) -> dict[str, pd.DataFrame]:
    """Return, by label, a table of epochs and options."""
    columns: dict[str, dict[str, str]] = {}
    known = sorted(data.labels, key=len, reverse=True)
    for name in map(str, data.history):
        if name.startswith(ALPHA):
            label, option = _parted(name.removeprefix(ALPHA), known)
            columns.setdefault(label, {})[name] = option
    return {
        label: data.history[list(names)].rename(columns=names).dropna(how="all")
        for label, names in columns.items()
    }


def _parted(name: str, labels: Sequence[str]) -> tuple[str, str]:
    """Return label and option; both may hold points, as options such as 0.5 do."""
    for label in labels:
        if name.startswith(f"{label}."):
            return label, name.removeprefix(f"{label}.")
    label, _, option = name.rpartition(".")
    return label, option


def scored_edges(data: ReportData) -> list[str]:
    """Return the labels of the edges that were scored."""
    names = map(str, data.history)
    return [name.removeprefix(SCORE) for name in names if name.startswith(SCORE)]


def decisions(data: ReportData, labels: Sequence[str]) -> list[Decided]:
    """Return every decision for an operation: an option that is certain, other than none.

    Args:
        data: of the run.
        labels: of the edges, in the order of their rows.
    """
    table, found = probabilities(data), []
    for row, label in enumerate(labels):
        p = table.get(label)
        certain = [] if p is None else (p == 1.0).any(axis=1).to_list()
        if p is not None and True in certain:
            at = certain.index(True)
            found.append(Decided(row, at, str(p.iloc[at].idxmax())))
    return [decided for decided in found if decided.option != "none"]
