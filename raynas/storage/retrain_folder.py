"""A retraining's folder: its configuration, and where the retrainings of a run lie."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from raynas.core.errors import StoreMismatch
from raynas.core.locations import is_uri, last_name, under
from raynas.core.retrain_config import RetrainConfig
from raynas.storage.json_files import read_json
from raynas.storage.run_folder import Folder

RETRAIN, METRICS, MODEL = "retrain.json", "metrics.json", "model.pt"
NETWORK, BEST = "network", "best"  # of checkpoints, and of the best weights
RETRAINED = "retrained"  # folder in a run's


def read_retrain_config(folder: Folder) -> RetrainConfig:
    """Return the configuration of the retraining in a folder.

    Raises:
        FileNotFoundError: it holds none.
        StoreMismatch: its file is no such configuration.
    """
    if not folder.has(RETRAIN):
        raise FileNotFoundError(f"{folder.path} holds no retraining: it has no {RETRAIN}")
    try:
        return RetrainConfig.from_json(folder.read(RETRAIN))
    except ValueError as error:
        raise StoreMismatch(
            f"{under(folder.path, RETRAIN)} is not a retraining's: {error}"
        ) from error


def is_retraining(path: str) -> bool:
    """Return whether a folder holds a retraining."""
    return Folder(path).has(RETRAIN)


def read_metrics(folder: Folder) -> dict[str, Any] | None:
    """Return what a finished retraining has measured; None of one that is not finished."""
    return read_json(folder, METRICS) if folder.has(METRICS) else None


def retrainings(run: str) -> list[str]:
    """Return the folders of a run's retrainings, in the order in which they were begun."""
    names = [name for name in Folder(under(run, RETRAINED)).names() if name.isdigit()]
    return [under(run, RETRAINED, name) for name in sorted(names, key=int)]


def fresh_retraining(run: str) -> str:
    """Return ``RUN/retrained/<n>`` of the next number; a local folder is made.

    Of several processes that ask at once on one file system, each gets a folder of its own.
    """
    last = retrainings(run)
    for number in itertools.count(int(last_name(last[-1])) + 1 if last else 1):
        folder = under(run, RETRAINED, str(number))
        if is_uri(run):  # object stores have no folders
            return folder
        try:
            Path(folder).mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("itertools.count ends")  # for the type checker
