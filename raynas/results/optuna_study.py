"""A run's trials as a study of Optuna, for its own tools and for optuna-dashboard."""

from __future__ import annotations

import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from raynas.core.arch import Value
from raynas.core.archspace import ArchSpace
from raynas.core.config import SearchConfig
from raynas.core.constraints import Constraint, as_constraints
from raynas.core.decision import Choice, Decision, Subset
from raynas.core.errors import InvalidArch
from raynas.core.locations import last_name
from raynas.core.plain_values import SCALARS, as_lists
from raynas.core.trial import Trial
from raynas.setup.resolve import space_again

DATABASES = (".db", ".sqlite", ".sqlite3")
JOURNALS = (".journal", ".log")
ENDINGS = (*DATABASES, *JOURNALS)
LISTED = 256  # sets up to which all that a label can hold are its distribution; else those seen
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
_CONSTRAINTS = "constraints"  # the attribute by which Optuna judges: feasible where none is above 0


@dataclass(frozen=True)
class RecordedRun:
    """What a study is made of.

    Attributes:
        path: of the run's folder; its last part is the study's name.
        config: of the run.
        trials: as the run judges them now.
        space: None where it is not at hand: a label's distribution is then what trials took.
    """

    path: str
    config: SearchConfig
    trials: Sequence[Trial]
    space: ArchSpace | None

    @property
    def name(self) -> str:
        """The study's name."""
        return last_name(self.path)


def space_at_hand(
    config: SearchConfig, own_space: Any, trials: Iterable[Trial]
) -> ArchSpace | None:
    """Return a run's space; None where it cannot be imported, or does not hold the trials.

    Args:
        config: of the run.
        own_space: the user's own, where it cannot be imported; else None.
        trials: of the run.
    """
    try:
        found = space_again(config.space, own_space, None).arch_space
        for trial in trials:
            found.check(trial.arch)
    except (LookupError, InvalidArch):
        return None
    return found


def write_study(run: RecordedRun, file: str, *, force: bool = False) -> None:
    """Write a run as a storage of Optuna, which has its name only once it is whole.

    Args:
        run: as recorded.
        file: local path; SQLite where it ends in ``.db``, ``.sqlite`` or ``.sqlite3``, and a
            journal where it ends in ``.journal`` or ``.log``.
        force: whether an existing file is replaced.

    Raises:
        FileExistsError: there is such a file and ``force`` is off.
    """
    target = Path(file).absolute()
    if target.exists() and not force:
        raise FileExistsError(f"export: {file} exists: replace it (force=True, --force)")
    written = target.with_name(f".{target.stem}.tmp{target.suffix}")
    written.unlink(missing_ok=True)
    storage = _storage(written)
    try:
        fill_study(run, storage)
    finally:
        storage.remove_session()
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()
    with open(written, "rb") as whole:
        os.fsync(whole.fileno())
    written.replace(target)
    for lock in target.parent.glob(f"{written.name}.*"):
        lock.unlink()


def _storage(file: Path) -> Any:
    """Return a new storage in a file."""
    if file.suffix in DATABASES:
        storage = RDBStorage(f"sqlite:///{file}")
        storage.engine.dispose()
        # until the file has its name nobody needs it, and waiting for the disk takes half the time
        event.listen(storage.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF"))
        return storage
    return JournalStorage(JournalFileBackend(str(file)))


def fill_study(run: RecordedRun, storage: Any) -> optuna.Study:
    """Create the study of a run in a storage, and return it.

    Trials stand in the order of their numbers. Choices are categorical parameters under their
    labels, those that an architecture does not reach left out; what is no plain value, as a set of
    options, is its JSON. Values are as measured. A trial beyond a bound has, as Optuna has it, a
    constraint above 0, so that ``best_trial`` and ``best_trials`` leave it out; one that was never
    evaluated, or was stopped early, is pruned.

    Args:
        run: as recorded.
        storage: of Optuna; it must hold no study of this name.
    """
    config = run.config
    with _quiet():
        study = optuna.create_study(
            storage=storage, study_name=run.name, directions=_directions(config)
        )
        study.set_metric_names(_metrics(config))
    for key, value in _about(run).items():
        study.set_user_attr(key, value)
    domains = _Domains(run)
    for trial in sorted(run.trials, key=lambda trial: trial.number):
        study.add_trial(_frozen(trial, config, domains))
    return study


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back that a study was created, and that names of metrics are experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _metrics(config: SearchConfig) -> list[str]:
    """Return the names of the values; several objectives that are merged are one."""
    return ["objective"] if config.scalarize else list(config.objectives)


def _directions(config: SearchConfig) -> list[StudyDirection]:
    if config.scalarize:
        return [StudyDirection.MAXIMIZE]
    return [_DIRECTIONS[goal] for goal in config.objectives.values()]


def _about(run: RecordedRun) -> dict[str, Any]:
    """Return what a study's own attributes say of the run."""
    config = run.config
    return {
        "space": config.space.name,
        "algo": config.algo.name,
        "evaluator": config.evaluator.name,
        "data": None if config.data is None else config.data.name,
        "seed": config.seed,
        "bounds": [str(bound) for bound in as_constraints(config.constraints)],
        "run": run.path,
        "raynas": config.versions.get("raynas"),
    }


# --- parameters -----------------------------------------------------------------------------------


class _Domains:
    """The distribution of every label, the same in all trials, as Optuna asks."""

    def __init__(self, run: RecordedRun) -> None:
        taken: dict[str, dict[Any, None]] = defaultdict(dict)
        for trial in run.trials:
            for label, value in trial.arch.items():
                taken[label][plain(value)] = None
        decisions: Mapping[str, Decision] = {} if run.space is None else run.space.decisions
        self._by_label = {
            label: CategoricalDistribution(_choices(decisions.get(label), seen))
            for label, seen in taken.items()
        }

    def __getitem__(self, label: str) -> CategoricalDistribution:
        return self._by_label[label]


def _choices(decision: Decision | None, seen: Iterable[Any]) -> list[Any]:
    """Return what a label can hold, as parameters."""
    if isinstance(decision, Choice) or (
        isinstance(decision, Subset) and decision.count() <= LISTED
    ):
        return [plain(value) for value in decision.values()]
    return sorted(seen, key=str)


def plain(value: Value) -> str | int | float | bool | None:
    """Return what a decision holds as the value of a parameter: a list or a set as JSON.

    >>> plain(3), plain(("conv", "pool"))
    (3, '["conv","pool"]')
    """
    if value is None or type(value) in SCALARS:
        return value  # type: ignore[return-value]
    return json.dumps(as_lists(value), separators=(",", ":"))


# --- trials ---------------------------------------------------------------------------------------


def _frozen(trial: Trial, config: SearchConfig, domains: _Domains) -> FrozenTrial:
    """Return a trial as Optuna keeps it."""
    state = _state(trial, config)
    values = _values(trial, config) if state == TrialState.COMPLETE else None
    frozen = create_trial(
        state=state,
        values=values,
        params={label: plain(value) for label, value in trial.arch.items()},
        distributions={label: domains[label] for label in trial.arch},
        user_attrs=_user_attrs(trial),
        system_attrs=_system_attrs(trial, as_constraints(config.constraints)),
        intermediate_values=_reached(trial, config) if state == TrialState.PRUNED else None,
    )
    frozen.datetime_start = _local(trial.started_utc)
    frozen.datetime_complete = _local(trial.finished_utc)
    return frozen


def _state(trial: Trial, config: SearchConfig) -> TrialState:
    """Return complete where there are all values, and which count for the whole budget."""
    if trial.status == "failed":
        return TrialState.FAIL
    measured = config.objectives.keys() <= trial.metrics.keys()
    whole = trial.scored or trial.status == "infeasible"
    return TrialState.COMPLETE if measured and whole else TrialState.PRUNED


def _values(trial: Trial, config: SearchConfig) -> list[float]:
    if config.scalarize:
        return [sum(w * trial.metrics[name] for name, w in config.scalarize.items())]
    return [trial.metrics[name] for name in config.objectives]


def _reached(trial: Trial, config: SearchConfig) -> dict[int, float] | None:
    """Return the value at the epoch at which a training was stopped."""
    if len(_metrics(config)) > 1 or not config.objectives.keys() <= trial.metrics.keys():
        return None
    return {trial.epochs: _values(trial, config)[0]}


def _user_attrs(trial: Trial) -> dict[str, Any]:
    """Return the rest of a row: the number here, for trials in flight may be missing there."""
    attributes = {
        "trial": trial.number,
        "status": trial.status,
        "arch_key": trial.arch.key,
        "arch": trial.arch.to_json(),
        **trial.metrics,
        **trial.text_metrics,
        "algo": trial.algo,
        "evaluator": trial.evaluator,
        "epochs": trial.epochs,
        "duration_s": trial.duration_s,
        "node": trial.node,
        "worker": trial.worker,
    }
    rarely = {name: getattr(trial, name) for name in ("error", "parent", "predicted", "left_out")}
    return attributes | {name: value for name, value in rarely.items() if value is not None}


def _system_attrs(trial: Trial, bounds: Sequence[Constraint]) -> dict[str, Any]:
    """Return what Optuna judges by: numbers above 0 where a bound is broken."""
    if not bounds or trial.status == "failed":
        return {}
    return {_CONSTRAINTS: [over for bound in bounds for over in _over(bound, trial)]}


def _over(bound: Constraint, trial: Trial) -> list[float]:
    """Return by how much a trial lies above or below each end, in the metric's own unit."""
    value = trial.metrics.get(bound.metric)
    if value is None:  # known to keep it, or not known to
        return [float(trial.status == "infeasible")]
    ends = [] if bound.high is None else [value - bound.high]
    return ends if bound.low is None else [*ends, bound.low - value]


def _local(instant: datetime) -> datetime:
    """Return an instant as Optuna writes it: in local time, without saying so."""
    return instant.astimezone().replace(tzinfo=None)
