"""The columns of the trial table and of the training history, and how those of parts combine.

``docs/trials.md`` explains them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision, Subset
from raynas.core.errors import StoreMismatch
from raynas.core.evaluator import RESERVED

UTC_TIME = pa.timestamp("us", tz="UTC")
_HEAD = {"trial": pa.int64(), "arch_key": pa.string(), "arch": pa.string()}
_SCORE = {"status": pa.string(), "objective": pa.float64()}
_TAIL = {
    "algo": pa.string(),
    "parent": pa.string(),
    "predicted": pa.float64(),
    "evaluator": pa.string(),
    "epochs": pa.int64(),
    "seed": pa.int64(),
    "asked_event": pa.int64(),
    "told_event": pa.int64(),
    "started_utc": UTC_TIME,
    "finished_utc": UTC_TIME,
    "duration_s": pa.float64(),
    "node": pa.string(),
    "worker": pa.string(),
    "error": pa.string(),
    "left_out": pa.string(),
}
BASE = {**_HEAD, **_SCORE, **_TAIL}
_LATER = ({"parent", "predicted"}, {"left_out"})  # older folders lack them: nothing is known then
_FILLED = BASE.keys() - set().union(*_LATER) - {"objective", "error"}  # never null
PLAIN = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_HISTORY = (pa.int64(), pa.float64(), pa.string())
NUMBER, TEXT = pa.float64(), pa.string()  # of metrics
CHOICE = "choice."


def trial_schema(space: ArchSpace | None, metrics: Iterable[str] = ()) -> pa.Schema:
    """Return the columns of the trial table, in order.

    Args:
        space: gives one column per label, or none if it is None.
        metrics: names of measured numbers.

    Raises:
        ValueError: a metric is named like another column.
    """
    decisions = {} if space is None else space.decisions
    choices = {CHOICE + label: _kind(d) for label, d in decisions.items()}
    return metric_schema(choices, dict.fromkeys(metrics, NUMBER))


def metric_schema(
    choices: Mapping[str, pa.DataType], metrics: Mapping[str, pa.DataType]
) -> pa.Schema:
    """Return the columns of trials with these choices and metrics.

    Raises:
        ValueError: a metric is named like another column.
    """
    for name in metrics:
        if name in RESERVED or name.startswith(CHOICE):
            raise ValueError(f"metric {name!r} is named like a column of the trial table")
    kinds = {**_HEAD, **choices, **_SCORE, **metrics, **_TAIL}
    return pa.schema([pa.field(name, kind, name not in _FILLED) for name, kind in kinds.items()])


def _kind(decision: Decision) -> pa.DataType:
    kind = pa.string() if in_json(decision) else PLAIN[type(decision.options[0])]
    return pa.list_(pa.field("element", kind)) if isinstance(decision, Subset) else kind


def in_json(decision: Decision) -> bool:
    """Return whether no one type of column holds all options, so that they stand as JSON."""
    kinds = set(map(type, decision.options))
    huge = any(isinstance(o, int) and not -(2**63) <= o < 2**63 for o in decision.options)
    return huge or len(kinds) > 1 or not kinds <= PLAIN.keys()


def is_choice(name: str) -> bool:
    """Return whether a column holds what architectures choose under a label."""
    return name.startswith(CHOICE)


def metrics_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Return the columns of what was measured, with their types."""
    own = (field for field in schema if field.name not in BASE and not is_choice(field.name))
    return {field.name: field.type for field in own}


def one_trial_schema(found: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the schema that holds those of all files; only metrics may differ."""
    choices: dict[str, pa.DataType] | None = None
    metrics: dict[str, pa.DataType] = {}
    for where, schema in found:
        kinds = {field.name: field.type for field in schema}
        lacking = {name for names in _LATER for name in _lacking(where, kinds, names)}
        for name, kind in BASE.items():
            if name not in lacking:
                _require(where, kinds, name, kind)
        own = {name: kind for name, kind in kinds.items() if is_choice(name)}
        choices = own if choices is None else choices
        if unknown := sorted(own.keys() - choices.keys()):
            raise StoreMismatch(f"{where} has the column {unknown[0]!r} of another search space")
        if own != choices:
            for name, kind in choices.items():
                _require(where, kinds, name, kind)
        for name, kind in metrics_of(schema).items():
            _require_metric(where, name)
            expected = kind if kind == TEXT else NUMBER
            _require(where, kinds, name, metrics.setdefault(name, expected))
    return metric_schema(choices or {}, metrics)


def _lacking(where: str, kinds: Mapping[str, pa.DataType], names: set[str]) -> set[str]:
    """Return the columns of a later release that a file lacks: all of those, or none.

    Raises:
        StoreMismatch: an earlier release's metric has the name of one.
    """
    there = names & kinds.keys()
    if there and (there != names or all(kinds[name] == NUMBER for name in there)):
        _require_metric(where, min(there))
    return set() if there else names


def _require(where: str, kinds: Mapping[str, pa.DataType], name: str, kind: pa.DataType) -> None:
    if name not in kinds:
        raise StoreMismatch(f"{where} has no column {name!r}: it holds no trials of this space")
    if (got := kinds[name]) != kind:
        raise StoreMismatch(f"column {name!r} of {where} holds {got}, expected {kind}")


def _require_metric(where: str, name: str) -> None:
    """Raise StoreMismatch if a metric of an earlier release has a name that is taken by now."""
    if name in RESERVED:
        raise StoreMismatch(
            f"{where} has a metric {name!r} of an earlier release, and raynas has a column of this "
            f"name by now: rename it, such as to 'my_{name}', in all files of the folder"
        )


def one_history_schema(found: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return all columns; one that is int in some files and float in others is float."""
    columns: dict[str, pa.DataType] = {}
    for where, schema in found:
        for field in schema:
            known = columns.setdefault(field.name, field.type)
            if {known, field.type} == {pa.int64(), pa.float64()}:
                columns[field.name] = pa.float64()
            elif known != field.type or known not in _HISTORY:
                expected = known if known in _HISTORY else "numbers or text"
                raise StoreMismatch(
                    f"column {field.name!r} of {where} holds {field.type}, expected {expected}"
                )
    return pa.schema(columns)
