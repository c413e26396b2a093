"""The table of what stays as it is in a model that was converted."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from raynas.costs.coverage import FixedPart

SHOWN = 3  # tensors of a reason


def fixed_parts(parts: Iterable[FixedPart]) -> Table:
    """Return why parts of a model stay as they are, for a terminal."""
    table = Table(
        title="What stays as it is", title_justify="left", show_edge=False, pad_edge=False
    )
    table.add_column("why", overflow="fold")
    table.add_column("dimensions", justify="right", no_wrap=True)
    table.add_column("weights", justify="right", no_wrap=True)
    table.add_column("such as", overflow="fold")
    for part in parts:
        more = ", ..." if len(part.tensors) > SHOWN else ""
        table.add_row(
            Text(part.reason),
            f"{part.dimensions:,}",
            f"{part.weights:,}",
            Text(", ".join(part.tensors[:SHOWN]) + more),
        )
    return table
