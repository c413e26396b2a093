"""What pictures and the report of a run are made of, read from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raynas.core.config import SearchConfig
from raynas.storage.json_files import read_json, write_json
from raynas.storage.retrain_folder import read_metrics, retrainings
from raynas.storage.run_folder import Folder

if TYPE_CHECKING:
    import pandas as pd

    from raynas.report.findings import ReportData

VERIFIED, TESTED = "verified.json", "rescored.json"


def read_report_data(
    folder: Folder,
    config: SearchConfig,
    trials: pd.DataFrame,
    history: pd.DataFrame,
    option_names: Callable[[], Mapping[str, Sequence[str]]],
) -> ReportData:
    """Return what is drawn of a run.

    Args:
        folder: of the run.
        config: of the run.
        trials: as the run judges them now.
        history: of the supernet's training.
        option_names: returns by label what candidates without names are; asked for where a trial
            picked one by its position.
    """
    from raynas.report.findings import ReportData
    from raynas.results.final_columns import final_said

    choices = trials.filter(regex="^choice\\.").dropna(axis="columns", how="all")
    positions = choices.select_dtypes("number").columns.size > 0
    return ReportData(
        trials=trials,
        history=history,
        config=config,
        verified=read_json(folder, VERIFIED, _verified) if folder.has(VERIFIED) else None,
        tested=read_tested(folder, len(history)),
        retrained=_retrained(folder.path),
        option_names=option_names() if positions else {},
        final_said=final_said(trials, folder.path, config),
    )


def write_tested(folder: Folder, epochs: int, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Keep metrics on more images than the search could afford, so that the report shows them.

    A folder that cannot be written to stays as it is.

    Args:
        folder: of the run.
        epochs: of the supernet's training, after which they were measured.
        rows: by architecture key.
    """
    kept = {"epochs": epochs, "rows": {**read_tested(folder, epochs), **rows}}
    try:
        write_json(folder, TESTED, kept)
    except OSError:
        return


def read_tested(folder: Folder, epochs: int) -> dict[str, dict[str, float]]:
    """Return such metrics by architecture key; none where the supernet was trained on since.

    Args:
        folder: of the run.
        epochs: of the supernet's training.
    """
    if not folder.has(TESTED):
        return {}
    kept = read_json(folder, TESTED, lambda kept: (kept["epochs"], dict(kept["rows"])))
    return dict(kept["rows"]) if kept["epochs"] == epochs else {}


def _verified(kept: dict[str, Any]) -> None:
    """Raise LookupError or TypeError unless a file holds what ``Result.verify`` wrote."""
    kept["said"].splitlines()
    for row in kept["rows"]:
        [row[name] for name in ("arch_key", "group", "cheap", "mean")]


def _retrained(path: str) -> dict[str, float]:
    """Return the metrics of the newest finished retraining in a run's folder, if there is one."""
    for place in reversed(retrainings(path)):
        metrics = read_metrics(Folder(place))
        if metrics is not None:
            return {name: float(v) for name, v in metrics.items() if isinstance(v, int | float)}
    return {}
