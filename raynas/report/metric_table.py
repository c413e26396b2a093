"""Metrics of a trained network as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from raynas.report.trial_tables import number

SPLITS = {"valid": "validation", "test": "test"}


def metric_table(metrics: Mapping[str, float], title: str) -> Table:
    """Return a table with a row for each split.

    Args:
        metrics: by name, such as ``valid_accuracy`` and ``test_loss``.
        title: above the table.
    """
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    by_split = {
        split: {
            name.removeprefix(f"{split}_"): value
            for name, value in metrics.items()
            if name.startswith(f"{split}_")
        }
        for split in SPLITS
    }
    table.add_column("split", no_wrap=True)
    for name in by_split["valid"]:
        table.add_column(name, justify="right", no_wrap=True)
    for split, values in by_split.items():
        if values:
            table.add_row(SPLITS[split], *(number(value, name) for name, value in values.items()))
    return table
