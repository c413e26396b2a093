"""Trials as a table on the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from raynas.core.metrics import COSTS, KV_CACHE
from raynas.core.spreadsheet_text import inert, quoting

if TYPE_CHECKING:
    import pandas as pd

FIXED = (*COSTS, KV_CACHE)
LISTS = (np.ndarray, list)  # what cells with several values are
RESCORED = "the cheap score with the supernet's weights, measured again on all validation examples"


def columns_of(metrics: Iterable[str]) -> list[str]:
    """Return the columns to show of metrics: each once, what the end of a search gave beside it.

    Costs are there what they were.

    >>> columns_of(["accuracy", "macs", "accuracy"])
    ['accuracy', 'final_accuracy', 'macs']
    """
    each = dict.fromkeys(metrics)
    return [
        column
        for metric in each
        for column in ((metric,) if metric in FIXED else (metric, f"final_{metric}"))
    ]


def trial_table(frame: pd.DataFrame, metrics: Sequence[str], title: str) -> Table:
    """Return a table of trials: rank, number, metrics, and the architecture's key.

    Args:
        frame: rows of the trial table, in the order to show.
        metrics: columns of numbers to show, where there are such.
        title: above the table.
    """
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    mixed = bool((frame["status"] != "completed").any())
    columns = [metric for metric in metrics if metric in frame]
    for name in ("#", "trial", *columns):
        table.add_column(name.removesuffix("_accuracy"), justify="right", no_wrap=True)
    if mixed:
        table.add_column("status", no_wrap=True)
    table.add_column("architecture", no_wrap=True)
    for at, row in enumerate(frame.to_dict("records"), 1):
        cells = [number(row[name], name) for name in columns]
        status = [row["status"]] if mixed else []
        table.add_row(str(at), str(row["trial"]), *cells, *status, row["arch_key"])
    return table


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return trials whose lists are JSON, so that a cell of text can hold them."""

    def text(cell: Any) -> Any:
        return json.dumps(np.asarray(cell).tolist()) if isinstance(cell, LISTS) else cell

    lists = [name for name in frame if any(isinstance(cell, LISTS) for cell in frame[name])]
    return frame.assign(**{str(name): frame[name].map(text) for name in lists})


def for_spreadsheets(frame: pd.DataFrame) -> str:
    r"""Return a table as CSV, no text of which a spreadsheet runs; numbers stay as they are.

    The evaluator ``table`` reads it back as it was.

    >>> import pandas as pd
    >>> cells = pd.DataFrame({"=SUM(A1)": ["@x", "-5", "plain", None], "b": [-1.5, 2.0, 0.0, 1.0]})
    >>> print(for_spreadsheets(cells), end="")
    '=SUM(A1),b
    '@x,-1.5
    -5,2.0
    plain,0.0
    ,1.0
    """
    texts = {str(name): frame[name].map(inert) for name in frame if frame[name].dtype.kind in "OTU"}
    table = frame.assign(**texts).rename(columns=inert)
    how = quoting(cell for cells in (table.columns, *texts.values()) for cell in cells)
    return str(table.to_csv(index=False, quoting=how))  # type: ignore[call-overload]


def best_trials(count: int) -> str:
    """Return what stands above a table of the best trials.

    >>> best_trials(1), best_trials(10)
    ('The best trial', 'The best trials')
    """
    return "The best trial" if count == 1 else "The best trials"


def number(value: float | str | None, name: str = "") -> str:
    """Return a number as people read it; text, which a column may hold instead, as it is.

    >>> number(0.98765, "accuracy"), number(1_155_520.0, "macs"), number(0.0412, "loss")
    ('98.77 %', '1.156 M', '0.0412')
    """
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return "-"
    if name.endswith("accuracy") and 0 <= value <= 1:
        return f"{100 * value:.2f} %"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {unit}"
    return f"{value:.4g}"


def verification_table(frame: pd.DataFrame, *, rescored: bool, metric: str = "accuracy") -> Table:
    """Return a table of retrained architectures: group, cheap score, stand-alone score.

    Args:
        frame: as in ``raynas.results.verification.Verification``.
        rescored: whether the cheap score was measured again, as it is where there is a supernet.
        metric: that the scores are of.
    """
    title = "Retrained on their own"
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    if rescored:
        table.caption, table.caption_justify = f"rescored: {RESCORED}", "left"
    cheap = "rescored" if rescored else "cheap"
    for name in ("group", cheap, "alone", "± seeds", "seeds", "architecture"):
        table.add_column(name, justify="left" if name in ("group", "architecture") else "right")
    for row in frame.to_dict("records"):
        scores = [number(row[name], metric) for name in ("cheap", "mean", "std")]
        table.add_row(row["group"], *scores, str(row["seeds"]), row["arch_key"])
    return table
