"""Run folders made by hand, through the real stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import raynas
from raynas.core.arch import Arch, Value
from raynas.core.archspace import ArchSpace
from raynas.core.config import ComponentSpec, SearchConfig
from raynas.core.decision import Choice
from raynas.core.trial import Trial
from raynas.storage.run_folder import CONFIG, Folder
from raynas.storage.table_writers import HistoryStore, TrialStore

OPS, DEPTHS = ("conv", "skip", "pool"), (2, 4, 10)
SPACE = ArchSpace(
    (Choice("layer1/op", OPS), Choice("layer2/op", OPS), Choice("layer2/depth", DEPTHS))
)
BEGAN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def trial(number: int, arch: Mapping[str, Value], accuracy: float, macs: float) -> Trial:
    """Return a completed trial of ten seconds."""
    return Trial(
        arch=Arch(arch),
        number=number,
        objective=accuracy,
        metrics={"accuracy": accuracy, "macs": macs},
        told_event=2 * number + 1,
        started_utc=BEGAN + timedelta(seconds=10 * number),
        finished_utc=BEGAN + timedelta(seconds=10 * number + 9),
        duration_s=9.0,
        node="here",
        worker=str(number % 2),
    )


def all_trials() -> list[Trial]:
    """Return a trial of every architecture; the first layer decides most, the depth the costs.

    From the second on every trial was changed from the one before.
    """
    trials: list[Trial] = []
    for first, op in enumerate(OPS):
        for second, other in enumerate(OPS):
            for depth in DEPTHS:
                arch: dict[str, Value] = {
                    "layer1/op": op,
                    "layer2/op": other,
                    "layer2/depth": depth,
                }
                number = len(trials)
                made = trial(number, arch, 0.5 + first / 10 + second / 100, depth * 1e6 + number)
                parent = trials[-1].arch.key if trials else None
                trials.append(replace(made, parent=parent))
    return trials


def failed(number: int, error: str) -> Trial:
    """Return a failed trial."""
    made = trial(number, {"layer1/op": "conv", "layer2/op": "conv", "layer2/depth": 2}, 0.0, 0.0)
    return replace(made, status="failed", objective=None, metrics={}, error=error)


def write_run(
    out: Path,
    told: Sequence[Trial],
    /,
    *,
    history: Sequence[Mapping[str, float | int | str | None]] = (),
    **changes: Any,
) -> raynas.Result:
    """Write a run's folder and load it."""
    folder = Folder(str(out))
    settings: dict[str, Any] = {
        "space": ComponentSpec(name="mine"),
        "algo": ComponentSpec(name="evolution"),
        "evaluator": ComponentSpec(name="score"),
        "objectives": {"accuracy": "max"},
        "trials": max(1, len(told)),
        "out": folder.path,
    }
    folder.write(CONFIG, SearchConfig(**settings | changes).to_json())
    if told:
        TrialStore(folder.path, SPACE).append(told)
    if history:
        HistoryStore(folder.path).append(history)
    return raynas.load(folder.path)


def gradient_history(epochs: int = 4) -> list[dict[str, float | int | str | None]]:
    """Return the history of an SGAS run of two edges, both decided at its end."""
    rows: list[dict[str, float | int | str | None]] = []
    for epoch in range(epochs):
        share = (epoch + 1) / epochs
        row: dict[str, float | int | str | None] = {"algo": "sgas", "epoch": epoch, "loss": 1.0}
        for label in ("layer1/op", "layer2/op"):
            row[f"alpha.{label}.conv"] = share
            row[f"alpha.{label}.0.5"] = 1 - share
            row[f"score.{label}"] = share
        rows.append(row | {"duration_s": 5.0})
    return rows
