"""What a run leaves on disk: trials and training history, as plain Parquet folders.

Any program that reads Parquet opens ``out/trials`` and ``out/history`` as they are, while the run
goes on, after it, and after it was killed. ``docs/trials.md`` explains the columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import pyarrow as pa

from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.decision import Decision, Subset
from raynas.core.errors import InvalidArch, StoreMismatch
from raynas.core.evaluator import RESERVED, shown
from raynas.core.trial import Trial
from raynas.storage.parquet import Parts, PartWriter
from raynas.storage.parts_read_again import PartsReadAgain
from raynas.storage.rows import Rows

_UTC = pa.timestamp("us", tz="UTC")
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
    "started_utc": _UTC,
    "finished_utc": _UTC,
    "duration_s": pa.float64(),
    "node": pa.string(),
    "worker": pa.string(),
    "error": pa.string(),
    "left_out": pa.string(),
}
_BASE = {**_HEAD, **_SCORE, **_TAIL}
_LATER = ({"parent", "predicted"}, {"left_out"})  # older folders lack them: nothing is known then
_FILLED = _BASE.keys() - set().union(*_LATER) - {"objective", "error"}  # never null
_PLAIN = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_HISTORY = (pa.int64(), pa.float64(), pa.string())
_NUMBER, _TEXT = pa.float64(), pa.string()  # of metrics
_CHOICE = "choice."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = attrgetter(*({"trial": "number", "arch_key": "arch.key"}.get(n, n) for n in _BASE))


def trial_schema(space: ArchSpace | None, metrics: Iterable[str] = ()) -> pa.Schema:
    """Return the columns of the trial table, in order.

    Args:
        space: gives one column per label, or none if it is None.
        metrics: names of measured numbers.

    Raises:
        ValueError: a metric is named like another column.
    """
    decisions = {} if space is None else space.decisions
    choices = {_CHOICE + label: _kind(d) for label, d in decisions.items()}
    return _schema(choices, dict.fromkeys(metrics, _NUMBER))


def _schema(choices: Mapping[str, pa.DataType], metrics: Mapping[str, pa.DataType]) -> pa.Schema:
    for name in metrics:
        if name in RESERVED or name.startswith(_CHOICE):
            raise ValueError(f"metric {name!r} is named like a column of the trial table")
    kinds = {**_HEAD, **choices, **_SCORE, **metrics, **_TAIL}
    return pa.schema([pa.field(name, kind, name not in _FILLED) for name, kind in kinds.items()])


def _kind(decision: Decision) -> pa.DataType:
    kind = pa.string() if in_json(decision) else _PLAIN[type(decision.options[0])]
    return pa.list_(pa.field("element", kind)) if isinstance(decision, Subset) else kind


def in_json(decision: Decision) -> bool:
    """Return whether no one type of column holds all options, so that they stand as JSON."""
    kinds = set(map(type, decision.options))
    huge = any(isinstance(o, int) and not -(2**63) <= o < 2**63 for o in decision.options)
    return huge or len(kinds) > 1 or not kinds <= _PLAIN.keys()


class TrialStore:
    """Appends told trials to ``out/trials``.

    Args:
        out: the run's folder, a local path or a URI that ``pyarrow.fs`` knows.
        space: gives the ``choice.<label>`` columns; None leaves them out.
        metrics: names of metrics that are columns from the start; others join when first told.
        writer: a name, if several processes append to the same folder at once.

    Raises:
        StoreMismatch: the folder holds another space's trials, or something else.
    """

    def __init__(
        self, out: str, space: ArchSpace | None, metrics: Sequence[str] = (), *, writer: str = ""
    ) -> None:
        declared = trial_schema(space, metrics)
        decisions = {} if space is None else space.decisions
        self._mixed = {label: d for label, d in decisions.items() if in_json(d)}
        self._parts = PartWriter(out, "trials", _one_trial_schema, declared, writer)
        self._filling = _Filling(self.schema, self._mixed)

    @property
    def schema(self) -> pa.Schema:
        """The columns of every part."""
        return self._parts.schema

    def append(self, trials: Sequence[Trial]) -> None:
        """Write trials as one part: after a kill all of them are there, or none.

        Raises:
            StoreMismatch: an architecture does not fit the columns of the store's space.
            ValueError: a metric is named like another column.
        """
        if not trials:
            return
        if self._filling.schema is not self.schema:
            self._filling = _Filling(self.schema, self._mixed)
        filling = self._filling
        metrics = dict(filling.metrics)
        for trial in trials:
            for name in trial.metrics:
                metrics.setdefault(name, _NUMBER)
        for trial in trials:
            for name in trial.text_metrics:
                metrics.setdefault(name, _TEXT)
        if len(metrics) > len(filling.metrics):
            choices = {field.name: field.type for field in self.schema if _is_choice(field.name)}
            filling = _Filling(_schema(choices, metrics), self._mixed)
        self._parts.append(filling.rows(trials))


class _Filling:
    """How the columns of one schema are filled: worked out once, since parts may be small."""

    def __init__(self, schema: pa.Schema, mixed: Mapping[str, Decision]) -> None:
        self.schema = schema
        self.metrics = _metrics(schema)
        self._names = schema.names
        self._labels = [n.removeprefix(_CHOICE) for n in self._names if _is_choice(n)]
        self._mixed = [mixed[label] for label in self._labels if label in mixed]

    def rows(self, trials: Sequence[Trial]) -> Rows:
        """Return trials as rows."""
        values: dict[str, Sequence[Any]] = dict(
            zip(_BASE, zip(*map(_FIELDS, trials), strict=True), strict=True)
        )
        values["arch"] = [trial.arch.to_json() for trial in trials]
        values["error"] = [_printable(trial.error) for trial in trials]
        chosen = zip(*(trial.arch.at(self._labels) for trial in trials), strict=True)
        for label, column in zip(self._labels, chosen, strict=True):
            values[_CHOICE + label] = column
        for decision in self._mixed:
            values[_CHOICE + decision.label] = [_jsoned(decision, t.arch) for t in trials]
        for name, kind in self.metrics.items():
            value = _text_of if kind == _TEXT else _number_of
            values[name] = [value(trial, name) for trial in trials]
        values["left_out"] = [_printable(self._left_out(trial)) for trial in trials]
        return Rows(self.schema, [values[name] for name in self._names])

    def _left_out(self, trial: Trial) -> str | None:
        """Return what the row does not hold; a column of numbers takes no text."""
        if not trial.text_metrics:
            return trial.left_out
        texts = trial.text_metrics.items()
        refused = [
            f"metric {name!r} is a number in other rows, got {shown(text)}"
            for name, text in texts
            if self.metrics[name] == _NUMBER
        ]
        if not refused:
            return trial.left_out
        return "; ".join([*([trial.left_out] if trial.left_out else []), *refused])


def _number_of(trial: Trial, name: str) -> float | None:
    return trial.metrics.get(name)


def _text_of(trial: Trial, name: str) -> str | None:
    """Return the text; a number that comes later into a column of text is written out."""
    if name in trial.metrics:
        return repr(trial.metrics[name])
    return _printable(trial.text_metrics.get(name))


def _is_choice(name: str) -> bool:
    return name.startswith(_CHOICE)


def _metrics(schema: pa.Schema) -> dict[str, pa.DataType]:
    own = (field for field in schema if field.name not in _BASE and not _is_choice(field.name))
    return {field.name: field.type for field in own}


def _jsoned(decision: Decision, arch: Arch) -> str | list[str] | None:
    """Return what an architecture takes as JSON, a set as a list of such; None if it does not."""
    if decision.label not in arch:
        return None
    value = arch[decision.label]
    if isinstance(decision, Subset) and isinstance(value, tuple):
        return [_json(option) for option in value]
    return _json(value)


def _json(option: object) -> str:
    return json.dumps(option, separators=(",", ":"))


def _printable(text: str | None) -> str | None:
    """Return text that UTF-8 can hold; an error may quote a file name that it cannot."""
    return text and text.encode("utf-8", "backslashreplace").decode()


def _one_trial_schema(found: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the schema that holds those of all files; only metrics may differ."""
    choices: dict[str, pa.DataType] | None = None
    metrics: dict[str, pa.DataType] = {}
    for where, schema in found:
        kinds = {field.name: field.type for field in schema}
        lacking = {name for names in _LATER for name in _lacking(where, kinds, names)}
        for name, kind in _BASE.items():
            if name not in lacking:
                _require(where, kinds, name, kind)
        own = {name: kind for name, kind in kinds.items() if _is_choice(name)}
        choices = own if choices is None else choices
        if unknown := sorted(own.keys() - choices.keys()):
            raise StoreMismatch(f"{where} has the column {unknown[0]!r} of another search space")
        if own != choices:
            for name, kind in choices.items():
                _require(where, kinds, name, kind)
        for name, kind in _metrics(schema).items():
            _require_metric(where, name)
            expected = kind if kind == _TEXT else _NUMBER
            _require(where, kinds, name, metrics.setdefault(name, expected))
    return _schema(choices or {}, metrics)


def _lacking(where: str, kinds: Mapping[str, pa.DataType], names: set[str]) -> set[str]:
    """Return the columns of a later release that a file lacks: all of those, or none.

    Raises:
        StoreMismatch: an earlier release's metric has the name of one.
    """
    there = names & kinds.keys()
    if there and (there != names or all(kinds[name] == _NUMBER for name in there)):
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


def read_trials(out: str) -> pa.Table:
    """Return all trials of a run in the order in which they were told, whoever wrote them.

    Raises:
        StoreMismatch: the folder holds something else, or lacks a part.
    """
    return _in_order(Parts(out, "trials", _one_trial_schema).read())


def _in_order(table: pa.Table) -> pa.Table:
    """Return trials in the order of tells, in which a single writer has left them."""
    told = table["told_event"].to_numpy()
    return table if (told[1:] >= told[:-1]).all() else table.sort_by("told_event")


def load_trials(out: str, space: ArchSpace | None = None) -> list[Trial]:
    """Return the trials of a run as they were appended, in the order in which they were told.

    Args:
        out: the run's folder.
        space: if given, every architecture is checked to lie in it.

    Raises:
        StoreMismatch: the folder holds something else, or another space's architectures.
    """
    parts = Parts(out, "trials", _one_trial_schema)
    table = _in_order(parts.read(lambda name: not _is_choice(name)))  # ``arch`` says it all
    columns = {name: table[name].to_pylist() for name in _BASE if _BASE[name] != _UTC}
    for name in ("started_utc", "finished_utc"):
        instants = table[name].cast(pa.int64()).to_pylist()
        columns[name] = [_EPOCH + timedelta(microseconds=micros) for micros in instants]
    columns["number"] = columns.pop("trial")
    del columns["arch_key"]
    columns["arch"] = [_arch(text, space, out) for text in columns["arch"]]
    kinds = _metrics(table.schema)
    for field, kind in (("metrics", _NUMBER), ("text_metrics", _TEXT)):
        names = [name for name in kinds if kinds[name] == kind]
        columns[field] = _by_row(names, [table[name].to_pylist() for name in names]) or [
            {} for _ in range(table.num_rows)
        ]
    rows = zip(*columns.values(), strict=True)
    return [Trial(**dict(zip(columns, row, strict=True))) for row in rows]


def _by_row(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return what is there of each row."""
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


def _arch(text: str, space: ArchSpace | None, out: str) -> Arch:
    arch = Arch.from_json(text)
    if space is not None:
        try:
            space.check(arch)
        except InvalidArch as error:
            raise StoreMismatch(f"{out} holds another space's trials: {error}") from error
    return arch


class HistoryStore:
    """Appends rows of training history to ``out/history``, one per epoch.

    Args:
        out: the run's folder, a local path or a URI that ``pyarrow.fs`` knows.
        writer: a name, if several processes append to the same folder at once.
    """

    def __init__(self, out: str, *, writer: str = "") -> None:
        self._parts = PartWriter(out, "history", _one_history_schema, pa.schema({}), writer)

    def append(self, rows: Sequence[Mapping[str, float | int | str | None]]) -> None:
        """Write rows as one part; a column is int, float or str, and null where a row lacks it.

        Raises:
            StoreMismatch: a column holds numbers in one row and text in another.
        """
        names = dict.fromkeys(name for row in rows for name in row)
        schema = _one_history_schema(
            ("the new rows", pa.schema({name: _number_or_text(name, row[name])}))
            for name in names
            for row in rows
            if row.get(name) is not None
        )
        columns = [[row.get(name) for row in rows] for name in schema.names]
        if len(schema):
            self._parts.append(Rows(schema, columns))

    def forget_from(self, epoch: float) -> None:
        """Take out the rows of an epoch and of those after it, which are trained again."""
        self._parts.cut("epoch", epoch)


def _number_or_text(name: str, value: object) -> pa.DataType:
    for kind in (int, float, str):
        if isinstance(value, kind):
            return _PLAIN[kind]
    got = type(value).__name__
    raise ValueError(f"history column {name!r} holds numbers or text, got a {got}")


def _one_history_schema(found: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
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


def history_of(out: str) -> Parts:
    """Return what reads a run's training history again and again while it is written."""
    return PartsReadAgain(out, "history", _one_history_schema)


def read_history(out: str) -> pa.Table:
    """Return all rows of a run's training history, in the order in which they were appended.

    Raises:
        StoreMismatch: the folder holds something else, or lacks a part.
    """
    return Parts(out, "history", _one_history_schema).read()
