"""How a metric stands on an axis: its name as people write it, its unit, and what it counts in."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd


@dataclass(frozen=True)
class Scale:
    """How a metric stands on an axis.

    Attributes:
        name: as people write it.
        unit: what the axis counts in, or nothing.
        factor: from the number as measured to that unit.
    """

    name: str
    unit: str = ""
    factor: float = 1.0

    @property
    def title(self) -> str:
        """Name and unit, as a heading."""
        text = f"{self.name} ({self.unit})" if self.unit else self.name
        return text[:1].upper() + text[1:]

    @property
    def escaped(self) -> Scale:
        """The same, with name and unit as HTML."""
        return Scale(escape(self.name), escape(self.unit), self.factor)


WRITTEN = {
    **{"macs": "MACs", "flops": "FLOPs", "mse": "MSE", "mae": "MAE", "r2": "R²", "f1": "F1"},
    "mean_iou": "mean IoU",
}


def plain(metric: str) -> Scale:
    """Return the name of a metric, and the unit that is part of it, if one is.

    >>> plain("latency_ms").title, plain("macs").title, plain("activation_bytes").title
    ('Latency (ms)', 'MACs', 'Activation bytes')
    """
    words = metric.split("_")
    if len(words) > 1 and words[-1] in ("ms", "s", "joules"):
        return Scale(" ".join(words[:-1]), words[-1])
    return Scale(WRITTEN.get(metric, " ".join(words)))


def scale(metric: str, values: pd.Series[float]) -> Scale:
    """Return the scale that suits a metric's values.

    >>> scale("macs", pd.Series([2.5e6, 8e5])).title, scale("accuracy", pd.Series([0.9])).title
    ('MACs (millions)', 'Accuracy (%)')
    """
    largest = float(values.abs().max()) if len(values) else 0.0
    named = plain(metric)
    if metric == "accuracy" or metric.endswith("_accuracy"):
        return Scale(named.name, "%", 100.0) if largest <= 1 else named
    if metric in ("macs", "flops", "params"):
        sizes = ((1e10, 1e9, "billions"), (1e5, 1e6, "millions"), (1e3, 1e3, "thousands"))
        fitting = ((size, unit) for least, size, unit in sizes if largest >= least)
        size, unit = next(fitting, (1.0, ""))
        return Scale(named.name, unit, 1 / size)
    if metric.endswith("_bytes"):
        return Scale(named.name.removesuffix(" bytes"), "MB", 1e-6)
    return named
