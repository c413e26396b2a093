"""Neural architecture search on Ray: a model with choices in, a table of architectures out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raynas.core.moved import install as _announce_moves
from raynas.core.versions import VERSION

if TYPE_CHECKING:
    from raynas.api import elastic as elastic
    from raynas.api import load as load
    from raynas.api import retrain as retrain
    from raynas.api import run as run
    from raynas.api import sampler as sampler
    from raynas.api import search as search
    from raynas.api import space as space
    from raynas.api import train_supernet as train_supernet
    from raynas.core.arch import Arch as Arch
    from raynas.core.archspace import ArchSpace as ArchSpace
    from raynas.core.config import RayConfig as RayConfig
    from raynas.core.decision import Choice as Choice
    from raynas.core.decision import Subset as Subset
    from raynas.core.trial import Trial as Trial
    from raynas.nn.modelspace import ModelSpace as ModelSpace
    from raynas.results.result import Result as Result
    from raynas.results.trained import Trained as Trained
    from raynas.setup.asked_begin import ask_tell as ask_tell
    from raynas.setup.costing import cost as cost
    from raynas.setup.costing import profile as profile
    from raynas.setup.optuna_study_sampler import optuna_sampler as optuna_sampler
    from raynas.setup.registries import available as available
    from raynas.setup.registries import describe as describe
    from raynas.tasks import Task as Task

__version__ = VERSION
_announce_moves()

# torch, ray and pandas take seconds to import: every public name loads its module when first used
_HOMES = {
    **dict.fromkeys(
        ("elastic", "load", "retrain", "run", "sampler", "search", "space", "train_supernet"),
        "raynas.api",
    ),
    **dict.fromkeys(("available", "describe"), "raynas.setup.registries"),
    **dict.fromkeys(("cost", "profile"), "raynas.setup.costing"),
    "Arch": "raynas.core.arch",
    "ask_tell": "raynas.setup.asked_begin",
    "optuna_sampler": "raynas.setup.optuna_study_sampler",
    "ArchSpace": "raynas.core.archspace",
    "Choice": "raynas.core.decision",
    "ModelSpace": "raynas.nn.modelspace",
    "RayConfig": "raynas.core.config",
    "Result": "raynas.results.result",
    "Subset": "raynas.core.decision",
    "Task": "raynas.tasks",
    "Trained": "raynas.results.trained",
    "Trial": "raynas.core.trial",
}
_PACKAGES = (
    "algorithms",
    "cluster",
    "data",
    "evaluators",
    "nn",
    "nni",
    "registry",
    "search_spaces",
    "tasks",
)
__all__ = sorted([*_HOMES, *_PACKAGES])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"raynas.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'raynas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
